"""Many connections of one framework, each used now and then, as those of an application's pool are.

python load.py FRAMEWORK HOST PORT DATABASE CONNECTIONS SECONDS: makes its tables in a schema of its
own, opens all connections, says `ready`, waits for a line, works, and says how much it did.
"""
import asyncio
import random
import sys
import threading
import time

framework, host, port, database = sys.argv[1:5]
connections, seconds = int(sys.argv[5]), float(sys.argv[6])
# Between two turns of a connection, on average, in seconds.
THINK = 3.0
done = 0


def ready():
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic() + seconds


def threads(work, close):
    """Runs work(number) again and again in a thread for each connection."""
    barrier, end = threading.Barrier(connections + 1), []
    counts, problems = [0] * connections, []

    def live(number):
        try:
            work(number)
            barrier.wait()
            barrier.wait()
            time.sleep(random.random() * THINK)
            while time.monotonic() < end[0]:
                work(number)
                counts[number] += 1
                time.sleep(random.random() * 2 * THINK)
        except BaseException as problem:
            problems.append(problem)
            barrier.abort()
        finally:
            close()

    threading.stack_size(256 * 1024)
    all = [threading.Thread(target=live, args=(number,)) for number in range(connections)]
    for thread in all:
        thread.start()
    barrier.wait()
    end.append(ready())
    barrier.wait()
    for thread in all:
        thread.join()
    if problems:
        raise problems[0]
    return sum(counts)


def django_orm():
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": host,
                "PORT": port,
                "USER": "postgres",
                "NAME": database,
                "CONN_MAX_AGE": None,
                "DISABLE_SERVER_SIDE_CURSORS": True,
            }
        },
        USE_TZ=True,
        TIME_ZONE="Europe/Berlin",
    )
    django.setup()
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from django.db import connection, transaction
    from django.db.models import Count, F

    call_command("migrate", verbosity=0)
    groups = [Group.objects.get_or_create(name=f"group {number}")[0] for number in range(20)]
    names = [f"user {number}" for number in range(500)]
    User.objects.bulk_create([User(username=name) for name in names], ignore_conflicts=True)

    def work(number):
        user = User.objects.get(username=random.choice(names))
        list(User.objects.filter(last_name=user.last_name).order_by("id")[:10])
        list(Group.objects.annotate(users=Count("user"))[:5])
        if random.random() < 0.3:
            with transaction.atomic():
                locked = User.objects.select_for_update().get(pk=user.pk)
                locked.groups.add(random.choice(groups))
                User.objects.filter(pk=user.pk).update(last_name=F("username"))

    connection.close()
    # In its own thread.
    return threads(work, lambda: connection.close())


def sqlalchemy_orm():
    from sqlalchemy import ForeignKey, create_engine, func, select
    from sqlalchemy.orm import (
        DeclarativeBase,
        Mapped,
        Session,
        mapped_column,
        relationship,
        selectinload,
    )

    url = f"postgresql+psycopg://postgres@{host}:{port}/{database}"
    engine = create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=True)

    class Base(DeclarativeBase):
        pass

    class Author(Base):
        __tablename__ = "pin_author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        books: Mapped[list["Book"]] = relationship(back_populates="author")

    class Book(Base):
        __tablename__ = "pin_book"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        author_id: Mapped[int] = mapped_column(ForeignKey("pin_author.id"), index=True)
        author: Mapped[Author] = relationship(back_populates="books")

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Author(name=f"author {number}") for number in range(200))
        session.commit()
        first = session.scalar(select(func.min(Author.id)))

    # Each thread keeps its connection, as with as many requests at a time.
    local = threading.local()

    def work(number):
        if not hasattr(local, "connection"):
            local.connection = engine.connect()
        session = Session(local.connection)
        chosen = first + random.randrange(200)
        query = select(Author).where(Author.id == chosen).options(selectinload(Author.books))
        author = session.scalars(query).one()
        session.scalar(select(func.count(Book.id)).where(Book.author_id == author.id))
        if random.random() < 0.3:
            with session.begin_nested():
                session.add(Book(title=str(number), author=author))
        session.commit()
        session.close()

    def close():
        local.connection.close()

    return threads(work, close)


def asyncpg_driver():
    import asyncpg

    async def run():
        pool = await asyncpg.create_pool(
            host=host, port=int(port), user="postgres", database=database,
            min_size=connections, max_size=connections,
        )
        async with pool.acquire() as one:
            await one.execute("CREATE TABLE IF NOT EXISTS pin_note (id serial PRIMARY KEY, text text)")
        count = 0

        async def live():
            nonlocal count
            await asyncio.sleep(random.random() * THINK)
            while time.monotonic() < end:
                # As with as many requests at a time: the pool's own reset is part of it.
                async with pool.acquire() as one:
                    await one.fetch("SELECT id, text FROM pin_note WHERE id < $1 LIMIT 10", 100)
                    if random.random() < 0.3:
                        async with one.transaction():
                            await one.execute("INSERT INTO pin_note (text) VALUES ($1)", "x")
                            await one.fetchval("SELECT count(*) FROM pin_note WHERE id < $1", 50)
                count += 1
                await asyncio.sleep(random.random() * 2 * THINK)

        end = await asyncio.to_thread(ready)
        await asyncio.gather(*(live() for _ in range(connections)))
        await pool.close()
        return count

    return asyncio.run(run())


WORK = {"django": django_orm, "sqlalchemy": sqlalchemy_orm, "asyncpg": asyncpg_driver}
print("done", WORK[framework](), flush=True)
