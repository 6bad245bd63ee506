"""Paths of the OpenAI-compatible gateway, under /v1/."""

from django.urls import path, re_path

from web.gateway import views

urlpatterns = [
    path("models", views.models, name="gateway-models"),
    path("models/<str:name>", views.models, name="gateway-model"),
    path("chat/completions", views.chat_completions, name="gateway-chat"),
    path("completions", views.completions, name="gateway-completions"),
    path("receipts/<str:name>", views.receipt, name="gateway-receipt"),
    re_path(r"^.*$", views.not_found),
]
