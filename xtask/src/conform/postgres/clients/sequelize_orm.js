// Sequelize: models, associations, managed transactions, errors, fifty at once.
const { DataTypes, Sequelize, UniqueConstraintError, fn, col } = require('sequelize');

const [host, port, database] = process.argv.slice(2);
const sequelize = new Sequelize(database, 'postgres', '', {
  host, port: Number(port), dialect: 'postgres', logging: false, pool: { max: 50 },
});

const Author = sequelize.define('author', { name: { type: DataTypes.STRING, unique: true }, born: DataTypes.DATE });
const Book = sequelize.define('book', { title: DataTypes.STRING, tags: DataTypes.ARRAY(DataTypes.STRING) });
Author.hasMany(Book);
Book.belongsTo(Author);

async function main() {
  await sequelize.sync({ force: true });
  for (let number = 0; number < 20; number += 1) {
    const author = await Author.create({ name: `author ${number}`, born: new Date(0) });
    for (let one = 0; one < number % 4; one += 1) {
      await author.createBook({ title: `${number}.${one}`, tags: ['a', String(one)] });
    }
  }
  console.log('books', await Book.count());
  const author = await Author.findOne({ where: { name: 'author 3' }, include: Book });
  console.log(author.name, author.born.toISOString(), author.books.map((book) => book.title).sort());
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      await sequelize.transaction(async (transaction) => {
        await Author.create({ name: 'undone' }, { transaction });
        await Author.create({ name: 'author 3' }, { transaction });
      });
    } catch (error) {
      console.log('refused', error instanceof UniqueConstraintError, error.parent.code);
    }
  }
  console.log('undone', await Author.count({ where: { name: 'undone' } }));
  const shop = async (number) => {
    let total = 0;
    for (let turn = 0; turn < 10; turn += 1) {
      await sequelize.transaction(async (transaction) => {
        const one = await Author.create({ name: `shop ${number} ${turn}` }, { transaction });
        await Book.create({ title: String(number), authorId: one.id }, { transaction });
        total += await Book.count({ where: { title: String(number) }, transaction });
      });
    }
    return total;
  };
  const totals = await Promise.all(Array.from({ length: 50 }, (_, number) => shop(number)));
  console.log('shops', totals.reduce((sum, total) => sum + total, 0));
  const grouped = await Book.findAll({
    attributes: ['tags', [fn('count', col('id')), 'count']], group: ['tags'], order: ['tags'], raw: true,
  });
  console.log(JSON.stringify(grouped));
  await sequelize.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
