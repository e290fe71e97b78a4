// As load.py, with node-postgres or Sequelize:
// node load.js FRAMEWORK HOST PORT DATABASE CONNECTIONS SECONDS
"use strict";
const [framework, host, port, database, count, seconds] = process.argv.slice(2);
const connections = Number(count);
const THINK = 3000;
const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));

function ready() {
  console.log("ready");
  return new Promise((resolve) => process.stdin.once("data", () => resolve(Date.now() + seconds * 1000)));
}

// Each connection works, then rests.
async function all(work) {
  await Promise.all(Array.from({ length: connections }, work));
  const end = await ready();
  let done = 0;
  async function live() {
    await sleep(Math.random() * THINK);
    while (Date.now() < end) {
      await work();
      done += 1;
      await sleep(Math.random() * 2 * THINK);
    }
  }
  await Promise.all(Array.from({ length: connections }, live));
  console.log("done", done);
}

async function nodePostgres() {
  const { Pool } = require("pg");
  const pool = new Pool({ host, port, database, user: "postgres", max: connections, idleTimeoutMillis: 0 });
  await pool.query("CREATE TABLE IF NOT EXISTS pin_item (id serial PRIMARY KEY, name text)");
  await all(async () => {
    const client = await pool.connect();
    try {
      await client.query({ name: "items", text: "SELECT * FROM pin_item WHERE id < $1 LIMIT 10", values: [100] });
      if (Math.random() < 0.3) {
        await client.query("BEGIN");
        await client.query("INSERT INTO pin_item (name) VALUES ($1)", ["x"]);
        await client.query("COMMIT");
      }
    } finally {
      client.release();
    }
  });
  await pool.end();
}

async function sequelizeOrm() {
  const { Sequelize, DataTypes } = require("sequelize");
  const sequelize = new Sequelize(database, "postgres", "", {
    host,
    port,
    dialect: "postgres",
    logging: false,
    pool: { max: connections, min: connections, acquire: 60000 },
  });
  const Shelf = sequelize.define("pin_shelf", { name: DataTypes.STRING });
  await sequelize.query('CREATE TABLE IF NOT EXISTS pin_shelves (id serial PRIMARY KEY, name text, "createdAt" timestamptz, "updatedAt" timestamptz)');
  await all(async () => {
    await Shelf.findAll({ limit: 10, order: [["id", "ASC"]] });
    if (Math.random() < 0.3) {
      await sequelize.transaction(async (transaction) => {
        await Shelf.create({ name: "x" }, { transaction });
        await Shelf.count({ transaction });
      });
    }
  });
  await sequelize.close();
}

({ "node-postgres": nodePostgres, sequelize: sequelizeOrm })[framework]().catch((error) => {
  console.error(error);
  process.exit(1);
});
