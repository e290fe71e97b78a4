"""asyncpg: prepared statements for everything, transactions, COPY, errors, a pool of its own."""
import asyncio
import sys

import asyncpg

host, port, database = sys.argv[1:4]
where = {"host": host, "port": int(port), "user": "postgres", "database": database}


async def shop(number):
    session = await asyncpg.connect(**where)
    total = 0
    for turn in range(20):
        async with session.transaction():
            await session.execute("INSERT INTO item (name, shop) VALUES ($1, $2)", f"{number} {turn}", number)
            total += await session.fetchval("SELECT count(*) FROM item WHERE shop = $1", number)
    await session.close()
    return total


async def main():
    session = await asyncpg.connect(**where)
    await session.execute("CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, shop int, tags text[])")
    statement = await session.prepare("INSERT INTO item (name, tags) VALUES ($1, $2) RETURNING id, name, tags")
    for number in range(20):
        print("inserted", tuple(await statement.fetchrow(f"name {number}", ["a", str(number)])))
    print("types", [str(one.type.name) for one in statement.get_attributes()])
    for attempt in range(3):
        try:
            async with session.transaction():
                await session.execute("INSERT INTO item (name) VALUES ($1)", "undone")
                await session.execute("INSERT INTO item (name) VALUES ($1)", "name 1")
        except asyncpg.UniqueViolationError as error:
            print("refused", error.sqlstate, error.constraint_name)
        try:
            await session.fetchval("SELECT 1/$1::int", 0)
        except asyncpg.DivisionByZeroError as error:
            print("refused", error.sqlstate)
    print("undone", await session.fetchval("SELECT count(*) FROM item WHERE name = 'undone'"))
    await session.executemany("INSERT INTO item (name) VALUES ($1)", [(f"many {n}",) for n in range(500)])
    print(await session.copy_records_to_table("item", columns=["name", "shop"], records=[(f"copy {n}", -1) for n in range(3000)]))
    rows = []
    async with session.transaction():
        async for row in session.cursor("SELECT id FROM item ORDER BY id", prefetch=100):
            rows.append(row[0])
    print("cursor", len(rows), rows[:3])
    # A type that is made now: asyncpg asks the catalogue about it.
    await session.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    print("mood", await session.fetchval("SELECT $1::mood", "happy"))
    # What a changed table does to a statement that is prepared.
    print(len(await session.fetchrow("SELECT * FROM item LIMIT 1")))
    await session.execute("ALTER TABLE item ADD more int")
    print(len(await session.fetchrow("SELECT * FROM item LIMIT 1")))
    try:
        await session.execute("SELECT pg_sleep(10)", timeout=0.3)
    except asyncio.TimeoutError:
        print("cancelled")
    print("and on", await session.fetchval("SELECT 1"))
    await session.close()
    print("shops", sum(await asyncio.gather(*[shop(number) for number in range(50)])))
    # Its own pool cleans sessions that it gives away again.
    async with asyncpg.create_pool(min_size=2, max_size=10, **where) as pool:
        async def one(number):
            async with pool.acquire() as session:
                return await session.fetchval("SELECT $1::int", number)
        print("pool", sum(await asyncio.gather(*[one(number) for number in range(200)])))
        print("rows", await pool.fetchval("SELECT count(*) FROM item"))
        # Notifications, its own among them; given back to its pool a session listens no more.
        heard = asyncio.Queue()
        async with pool.acquire() as session:
            def note(of, process, channel, payload):
                heard.put_nowait((channel, payload, process == of.get_server_pid()))
            await session.add_listener("News", note)
            for number in range(100):
                await pool.execute("SELECT pg_notify('News', $1)", str(number))
            payloads = [await asyncio.wait_for(heard.get(), 10) for _ in range(100)]
            print("heard", payloads[0], payloads[-1], len(payloads))
            await session.execute("NOTIFY \"News\", 'own'")
            print("heard", await asyncio.wait_for(heard.get(), 10))
            await session.remove_listener("News", note)
        await pool.execute("NOTIFY \"News\", 'to nobody'")
        print("heard", heard.qsize())


asyncio.run(main())
