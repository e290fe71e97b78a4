"""Books and who buys them."""
from django.conf import settings
from django.db import models


class Publisher(models.Model):
    name = models.CharField(max_length=100)
    city = models.CharField(max_length=100)


class Author(models.Model):
    name = models.CharField(max_length=100)
    biography = models.TextField()
    born = models.IntegerField()


class Book(models.Model):
    title = models.CharField(max_length=200)
    subtitle = models.CharField(max_length=200)
    summary = models.TextField()
    isbn = models.CharField(max_length=20, unique=True)
    language = models.CharField(max_length=5)
    pages = models.IntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    format = models.CharField(max_length=20)
    shelf = models.CharField(max_length=20)
    stock = models.IntegerField()
    published = models.IntegerField()
    added = models.DateTimeField(auto_now_add=True)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    publisher = models.ForeignKey(Publisher, models.CASCADE)


class Review(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, related_name="reviews")
    reader = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    stars = models.IntegerField()
    text = models.TextField()


class Order(models.Model):
    number = models.CharField(max_length=30, unique=True)
    # What the carrier calls it: looked for, and without an index.
    reference = models.CharField(max_length=30)
    state = models.CharField(max_length=10)
    total = models.DecimalField(max_digits=8, decimal_places=2)
    created = models.DateTimeField(auto_now_add=True)
    book = models.ForeignKey(Book, models.CASCADE)
    reader = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
