"""Django's ORM: migrations by its schema editor, transactions, locks, iterators, many threads."""
import concurrent.futures
import sys

import django
from django.conf import settings

host, port, database = sys.argv[1:4]
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": host,
            "PORT": port,
            "USER": "postgres",
            "NAME": database,
            # As its documentation says for a pool by transaction.
            "DISABLE_SERVER_SIDE_CURSORS": False,
            "CONN_MAX_AGE": None,
        }
    },
    USE_TZ=True,
    TIME_ZONE="Europe/Berlin",
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Count, F  # noqa: E402

call_command("migrate", verbosity=0)
print("tables", sorted(connection.introspection.table_names()))
group = Group.objects.create(name="readers")
for number in range(20):
    user = User.objects.create(username=f"user {number}")
    if number % 2:
        user.groups.add(group)
print("readers", group.user_set.count())
with transaction.atomic():
    User.objects.filter(username="user 1").update(first_name="changed")
    try:
        with transaction.atomic():
            User.objects.create(username="user 1")
    except IntegrityError:
        print("only the inner one is undone")
print(User.objects.get(username="user 1").first_name)
try:
    with transaction.atomic():
        User.objects.create(username="undone")
        raise ValueError
except ValueError:
    print("undone", User.objects.filter(username="undone").count())
User.objects.bulk_create(User(username=f"bulk {number}") for number in range(1000))
# A cursor of the server's, inside of a transaction and outside of one.
with transaction.atomic():
    print("iterated", sum(1 for _ in User.objects.iterator(chunk_size=100)))
print("iterated", sum(1 for _ in User.objects.order_by("id").iterator(chunk_size=100)))
print(list(Group.objects.annotate(users=Count("user")).values_list("name", "users")))
counter = Group.objects.create(name="0")


def shop(number):
    try:
        for turn in range(10):
            with transaction.atomic():
                locked = Group.objects.select_for_update().get(id=counter.id)
                locked.name = str(int(locked.name) + 1)
                locked.save()
            User.objects.filter(username=f"user {number % 20}").update(last_name=F("username"))
        return 10
    finally:
        connection.close()


with concurrent.futures.ThreadPoolExecutor(50) as pool:
    print("shops", sum(pool.map(shop, range(50))))
counter.refresh_from_db()
print("counted", counter.name, User.objects.count())
