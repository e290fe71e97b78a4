"""Where everything is."""
from catalogue import views
from django.urls import path

urlpatterns = [
    path("", views.home),
    path("login/", views.log_in),
    path("books/", views.books),
    path("books/<int:pk>/", views.book),
    path("books/<int:pk>/stock/", views.stock),
    path("authors/<int:pk>/", views.author),
    path("find/", views.find),
    path("orders/<int:pk>/", views.order),
    path("orders/<int:pk>/pay/", views.pay),
]
