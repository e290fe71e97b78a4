"""The pages. What is wrong with some of them is switched on by a file, named in FAULTS: one word a line."""
import os
import time
from pathlib import Path

from django.contrib.auth import authenticate, login
from django.db import transaction
from django.db.models import Avg, F
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render

from .models import Author, Book, Order

FAULTS = Path(os.environ["FAULTS"])


def is_on(fault):
    return fault in FAULTS.read_text().split()


def ask_the_bank(seconds):
    """Another service, which takes its time."""
    time.sleep(seconds)


def log_in(request):
    user = authenticate(request, username=request.GET["name"], password="secret")
    login(request, user)
    return HttpResponse("welcome")


def home(request):
    latest = Book.objects.order_by("-id")[:10]
    return render(request, "home.html", {"books": latest, "count": Author.objects.count()})


def books(request):
    first = int(request.GET.get("from", 0))
    shown = Book.objects.order_by("id")[first : first + 25]
    if not is_on("n_plus_one"):
        shown = shown.select_related("author")
    # The template names the author of each.
    return render(request, "books.html", {"books": shown})


def book(request, pk):
    one = get_object_or_404(Book.objects.select_related("author", "publisher"), pk=pk)
    reviews = one.reviews.select_related("reader").order_by("-id")[:10]
    stars = one.reviews.aggregate(stars=Avg("stars"))
    return render(request, "book.html", {"book": one, "reviews": reviews, **stars})


def author(request, pk):
    one = get_object_or_404(Author, pk=pk)
    return render(request, "author.html", {"author": one, "books": one.books.order_by("title")[:50]})


def find(request):
    wanted = request.GET["q"]
    orders = Order.objects.select_related("book", "book__author", "reader")
    if is_on("missing_index"):
        found = orders.filter(reference=f"reference-{wanted}").first()
    else:
        found = orders.filter(number=f"order-{wanted}").first()
    return render(request, "order.html", {"order": found})


def order(request, pk):
    one = get_object_or_404(Order.objects.select_related("book", "reader"), pk=pk)
    return render(request, "order.html", {"order": one})


def pay(request, pk):
    if is_on("held"):
        with transaction.atomic():
            one = Order.objects.select_for_update().get(pk=pk)
            ask_the_bank(1.5)
            one.state = "paid"
            one.save(update_fields=["state"])
    else:
        ask_the_bank(0.2)
        Order.objects.filter(pk=pk).update(state="paid")
    return JsonResponse({"paid": pk})


def stock(request, pk):
    with transaction.atomic():
        Book.objects.filter(pk=pk).update(stock=F("stock") - 1)
        if is_on("lock") and request.GET.get("audit"):
            # Waits for an audit before it commits.
            time.sleep(9)
    return JsonResponse({"sold": pk})
