"""A forum with Flask and SQLAlchemy: an engine with a pool, a session for each request, JSON answers.

What is wrong with some of it is switched on by a file, named in FAULTS: one word a line.
"""
import os
import sys
import time
from pathlib import Path

from flask import Flask, g, jsonify, request
from sqlalchemy import ForeignKey, create_engine, func, select, text, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

FAULTS = Path(os.environ.get("FAULTS", "/dev/null"))
engine = create_engine(
    f"postgresql+psycopg://postgres@{os.environ['DB']}/postgres", pool_size=8, max_overflow=0
)


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    about: Mapped[str]
    posts: Mapped[list["Post"]] = relationship(back_populates="member")


class Topic(Base):
    __tablename__ = "topic"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    views: Mapped[int]
    posts: Mapped[list["Post"]] = relationship(back_populates="topic")


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    topic_id: Mapped[int] = mapped_column(ForeignKey("topic.id"), index=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"), index=True)
    body: Mapped[str]
    # Looked for, and without an index.
    address: Mapped[str]
    topic: Mapped[Topic] = relationship(back_populates="posts")
    member: Mapped[Member] = relationship(back_populates="posts")


application = Flask(__name__)


def is_on(fault):
    return fault in FAULTS.read_text().split()


def ask_the_filter(seconds):
    """Another service, which takes its time."""
    time.sleep(seconds)


@application.before_request
def begin():
    g.session = Session(engine)
    if name := request.headers.get("X-Member"):
        g.member = g.session.scalars(select(Member).where(Member.name == name)).one()


@application.teardown_request
def end(problem):
    g.session.close()


@application.get("/")
def home():
    count = g.session.scalar(select(func.count(Topic.id)))
    return jsonify(topics=count)


@application.get("/topics/<int:number>")
def topic(number):
    posts = select(Post).where(Post.topic_id == number).order_by(Post.id).limit(20)
    if not is_on("n_plus_one"):
        posts = posts.options(joinedload(Post.member))
    return jsonify([[post.body, post.member.name] for post in g.session.scalars(posts)])


@application.get("/members/<int:number>")
def member(number):
    one = g.session.get(Member, number, options=[selectinload(Member.posts)])
    return jsonify(name=one.name, posts=[post.id for post in one.posts])


@application.get("/search")
def search():
    wanted = int(request.args["q"])
    if is_on("missing_index"):
        found = select(Post).where(Post.address == f"address {wanted}").limit(1)
    else:
        found = select(Post).where(Post.id == wanted)
    post = g.session.scalars(found).one()
    return jsonify(body=post.body)


@application.post("/topics/<int:number>/posts")
def say(number):
    if is_on("held"):
        # The session has begun with the member's query, and keeps its transaction meanwhile.
        g.session.add(Post(topic_id=number, member_id=1, body="hello", address="new"))
        g.session.flush()
        ask_the_filter(1.5)
        g.session.commit()
    else:
        g.session.commit()
        ask_the_filter(0.2)
        g.session.add(Post(topic_id=number, member_id=1, body="hello", address="new"))
        g.session.commit()
    return jsonify(said=number)


@application.post("/topics/<int:number>/view")
def view(number):
    g.session.execute(update(Topic).where(Topic.id == number).values(views=Topic.views + 1))
    if is_on("lock") and request.args.get("audit"):
        time.sleep(9)
    g.session.commit()
    return jsonify(seen=number)


def fill():
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                """
                INSERT INTO member (name, about)
                    SELECT 'member' || n, repeat('I write. ', 20) FROM generate_series(1, 500) AS n;
                INSERT INTO topic (title, views) SELECT 'Topic ' || n, 0 FROM generate_series(1, 3000) AS n;
                INSERT INTO post (topic_id, member_id, body, address)
                    SELECT 1 + n % 3000, 1 + n / 7 % 500, repeat('So it is. ', 5), 'address ' || n
                    FROM generate_series(1, 200000) AS n;
                """
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


if __name__ == "__main__" and sys.argv[1:] == ["fill"]:
    fill()
