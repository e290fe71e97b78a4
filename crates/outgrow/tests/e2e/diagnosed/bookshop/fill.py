"""Makes the tables by their migrations, and fills them."""
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

call_command("migrate", verbosity=0)
# The application has no migrations yet.
call_command("migrate", run_syncdb=True, verbosity=0)
for number in range(20):
    User.objects.create_user(f"reader{number}", password="secret")
with connection.cursor() as cursor:
    cursor.execute(
        """
        INSERT INTO catalogue_publisher (name, city)
            SELECT 'Publisher ' || n, 'City ' || n % 20 FROM generate_series(1, 50) AS n;
        INSERT INTO catalogue_author (name, biography, born)
            SELECT 'Author ' || n, repeat('A life. ', 20), 1900 + n % 100 FROM generate_series(1, 400) AS n;
        INSERT INTO catalogue_book (title, subtitle, summary, isbn, language, pages, price, format,
                shelf, stock, published, added, author_id, publisher_id)
            SELECT 'Book ' || n, 'Or: ' || n, repeat('It begins. ', 10), 'isbn-' || n, 'en', 100 + n % 400,
                5 + n % 30, 'paper', 'shelf ' || n % 50, 100, 1990 + n % 30, now(), 1 + n * 7 % 400,
                1 + n % 50
            FROM generate_series(1, 3000) AS n;
        INSERT INTO catalogue_review (book_id, stars, text, reader_id)
            SELECT 1 + n % 3000, 1 + n % 5, repeat('I liked it. ', 5), (SELECT min(id) FROM auth_user)
            FROM generate_series(1, 9000) AS n;
        INSERT INTO catalogue_order (number, reference, state, total, created, book_id, reader_id)
            SELECT 'order-' || n, 'reference-' || n, 'new', n % 90, now(), 1 + n % 3000,
                (SELECT min(id) FROM auth_user)
            FROM generate_series(1, 200000) AS n;
        ANALYZE;
        """
    )
