// node-postgres: named statements, transactions, errors, a pool of fifty, cancelling by a time limit.
const { Client, Pool } = require('pg');

const [host, port, database] = process.argv.slice(2);
const where = { host, port: Number(port), user: 'postgres', database };

async function main() {
  const client = new Client(where);
  await client.connect();
  await client.query('CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, data jsonb)');
  const insert = { name: 'insert', text: 'INSERT INTO item (name, data) VALUES ($1, $2) RETURNING id, name, data' };
  for (let number = 0; number < 20; number += 1) {
    const { rows } = await client.query({ ...insert, values: [`name ${number}`, { number }] });
    console.log('inserted', JSON.stringify(rows[0]));
  }
  for (let attempt = 0; attempt < 3; attempt += 1) {
    await client.query('BEGIN');
    try {
      await client.query(insert, []).catch(() => {});
      await client.query({ ...insert, values: ['name 1', null] });
    } catch (error) {
      console.log('refused', error.code);
    }
    await client.query('ROLLBACK');
  }
  try {
    await client.query({ name: 'wrong', text: 'SELEC 1' });
  } catch (error) {
    console.log('refused', error.code);
  }
  // Many at once on one connection.
  const many = await Promise.all(
    Array.from({ length: 100 }, (_, number) =>
      client.query({ name: 'double', text: 'SELECT $1::int * 2 AS two', values: [number] })),
  );
  console.log('many', many.reduce((sum, { rows }) => sum + rows[0].two, 0));
  await client.query("SET TIME ZONE 'Asia/Tokyo'");
  console.log((await client.query('SHOW TIME ZONE')).rows[0].TimeZone);
  await client.end();

  const pool = new Pool({ ...where, max: 50 });
  const shop = async (number) => {
    let total = 0;
    for (let turn = 0; turn < 20; turn += 1) {
      const session = await pool.connect();
      try {
        await session.query('BEGIN');
        await session.query({ ...insert, values: [`${number} ${turn}`, { shop: number }] });
        const { rows } = await session.query({
          name: 'count',
          text: "SELECT count(*)::int AS count FROM item WHERE data->>'shop' = $1",
          values: [String(number)],
        });
        total += rows[0].count;
        await session.query('COMMIT');
      } finally {
        session.release();
      }
    }
    return total;
  };
  const totals = await Promise.all(Array.from({ length: 50 }, (_, number) => shop(number)));
  console.log('shops', totals.reduce((sum, total) => sum + total, 0));
  // Notifications, its own among them.
  const listener = new Client(where);
  await listener.connect();
  const heard = [];
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  listener.on('notification', ({ payload, processId }) => {
    heard.push([payload, processId === listener.processID]);
    if (heard.length === 101) done();
  });
  await listener.query('LISTEN news');
  for (let number = 0; number < 100; number += 1) {
    await pool.query("SELECT pg_notify('news', $1)", [String(number)]);
  }
  while (heard.length < 100) await listener.query('SELECT 1');
  await listener.query("NOTIFY news, 'own'");
  await all;
  console.log('heard', heard[0], heard[99], heard[100]);
  await listener.end();
  const { rows } = await pool.query('SELECT count(*)::int AS count FROM item');
  console.log('rows', rows[0].count);
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
