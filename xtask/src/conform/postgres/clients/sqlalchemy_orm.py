"""SQLAlchemy's ORM over psycopg: models, relations, a version column, savepoints, many sessions."""
import concurrent.futures
import sys

from sqlalchemy import ForeignKey, Integer, MetaData, create_engine, func, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.exc import StaleDataError

host, port, database = sys.argv[1:4]
engine = create_engine(f"postgresql+psycopg://postgres@{host}:{port}/{database}", pool_size=50)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    version = mapped_column(Integer, nullable=False)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")
    __mapper_args__ = {"version_id_col": version}


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


Base.metadata.create_all(engine)
with Session(engine) as session:
    for number in range(20):
        books = [Book(title=f"{number}.{one}") for one in range(number % 4)]
        session.add(Author(name=f"author {number}", books=books))
    session.commit()
    print("books", session.scalar(select(func.count(Book.id))))
    author = session.scalars(select(Author).where(Author.name == "author 3")).one()
    print(author.name, sorted(book.title for book in author.books))
    author.books.pop()
    author.name = "renamed"
    session.commit()
    print(author.name, len(author.books), author.version)
    try:
        with session.begin_nested():
            session.add(Author(name="renamed"))
    except IntegrityError as error:
        print("refused", error.orig.diag.sqlstate)
    session.add(Author(name="another"))
    session.commit()
    with Session(engine) as other:
        same = other.get(Author, author.id)
        same.name = "first"
        other.commit()
    author.name = "second"
    try:
        session.commit()
    except IntegrityError:
        print("integrity")
    except StaleDataError:
        session.rollback()
        print("stale")
    print(author.name)
    rows = session.execute(
        select(Author.name, func.count(Book.id)).join(Book).group_by(Author.name).order_by(Author.name)
    ).all()
    print("by author", [tuple(row) for row in rows])


def shop(number):
    total = 0
    for turn in range(10):
        with Session(engine) as session, session.begin():
            session.add(Author(name=f"shop {number} {turn}", books=[Book(title=str(turn))]))
            session.flush()
            total += session.scalar(
                select(func.count(Author.id)).where(Author.name.like(f"shop {number} %"))
            )
    return total


with concurrent.futures.ThreadPoolExecutor(50) as pool:
    print("shops", sum(pool.map(shop, range(50))))
metadata = MetaData()
metadata.reflect(engine)
print("reflected", sorted(metadata.tables), [one["name"] for one in inspect(engine).get_columns("book")])
with Session(engine) as session:
    print("rows", session.scalar(select(func.count(Author.id))), session.scalar(select(func.count(Book.id))))
