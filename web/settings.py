"""Django's settings, assembled from the typed groups of `web.environment`.

Code below the entry points asks `django.conf.settings` for the names of the block "Reclaim's own";
nothing else reads the environment.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONCE, NONE, SELF

from governance.services.limits import KeyLimits
from web import environment, logs
from web.api.described import enum_names

BASE_DIR = Path(__file__).resolve().parent.parent
CONFIGURATION = environment.read(os.environ, BASE_DIR)
_places, _site = CONFIGURATION.places, CONFIGURATION.site
_servers, _serving, _mail = CONFIGURATION.servers, CONFIGURATION.serving, CONFIGURATION.mail

# ── Reclaim's own ────────────────────────────────────────────────────────────────────────────────
RECLAIM_HOME: Path = _places.home
RECLAIM_STORE: Path = _places.store
RECLAIM_KEYS: Path = _places.keys
RECLAIM_LEASE_S: int = _serving.lease_s
RECLAIM_RUNNER_URLS: tuple[str, ...] = _serving.runner_urls
RECLAIM_ENGINE: str = _serving.engine
RECLAIM_DEVICE: str = _serving.device
RECLAIM_LAYOUT: str = _serving.layout
RECLAIM_OPEN_ANSWERS: int = _serving.open_answers
RECLAIM_GRACE_S: int = _serving.grace_s
RECLAIM_KEY_LIMITS: KeyLimits = _serving.key_limits
RECLAIM_LOG_ORIGIN: str = _serving.log_origin
RECLAIM_WEBHOOK_HOSTS: tuple[str, ...] = _serving.webhook_hosts
RECLAIM_PUBLIC_URL: str = _site.public_url
RECLAIM_DEBUG: bool = _site.debug
RECLAIM_STAFF_MFA: bool = CONFIGURATION.is_staff_mfa_forced
RECLAIM_CONTROLLER: dict[str, str] = {
    **asdict(CONFIGURATION.controller),
    "url": _site.public_url,
}
RECLAIM_STEP_UP_MINUTES: int = _site.step_up_minutes
# None until a server is named or started; the Celery application says so when it needs one.
REDIS_URL: str | None = _servers.redis_url

# ── Site ─────────────────────────────────────────────────────────────────────────────────────────
DEBUG = _site.debug
SECRET_KEY = _site.secret_key
ALLOWED_HOSTS = list(_site.allowed_hosts)
CSRF_TRUSTED_ORIGINS = [_site.public_url]
ROOT_URLCONF = "web.urls"
ASGI_APPLICATION = "web.asgi.application"
WSGI_APPLICATION = "web.wsgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
LANGUAGE_CODE = "en-gb"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "governance",
    "web",  # before allauth, so that our log-in pages win
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "axes",
    "csp",
    "django_cotton.apps.SimpleAppConfig",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "pgtrigger",
    "rest_framework",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "web.logs.RequestLines",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "web.access.TenantEnds",
    "django.contrib.messages.middleware.MessageMiddleware",
    "web.second_factor.StaffNeedsSecondFactor",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "axes.middleware.AxesMiddleware",  # last: it turns a lock-out seen by the views into a page
]

_loaders: list[Any] = [
    "django_cotton.cotton_loader.Loader",
    "django.template.loaders.filesystem.Loader",
    "django.template.loaders.app_directories.Loader",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": _loaders if DEBUG else [("django.template.loaders.cached.Loader", _loaders)],
            "builtins": [
                "django.templatetags.static",
                "django_cotton.templatetags.cotton",
                "web.templatetags.design",
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "web.ui.context.navigation",
            ],
        },
    }
]
COTTON_DIR = "components"
COTTON_ISOLATE_BY_DEFAULT = True  # a component sees what it is handed, never the page's variables

# ── Database, cache, sessions ────────────────────────────────────────────────────────────────────
DATABASES: dict[str, dict[str, Any]] = {"default": {"ENGINE": "web.nowhere"}}
if _servers.database is not None:
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _servers.database.name,
        "HOST": _servers.database.host,
        "PORT": _servers.database.port,
        "USER": _servers.database.account,
        "PASSWORD": _servers.database.password,
        "OPTIONS": dict(_servers.database.options),
        # Under ASGI each request has its own thread, so a kept connection would never be met again.
        "CONN_MAX_AGE": _servers.database.keep_s,
        "CONN_HEALTH_CHECKS": True,
    }
# Only rate limits live in the cache. Redis may vanish without a wrong answer, so it is not used.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_AGE = int(timedelta(hours=12).total_seconds())
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# ── Static files: served by ourselves, straight from the packages that ship them ─────────────────
STATIC_URL = "/static/"
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.AppDirectoriesFinder"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_ALLOW_ALL_ORIGINS = False

# ── Log-in ───────────────────────────────────────────────────────────────────────────────────────
AUTH_USER_MODEL = "governance.Account"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("UserAttributeSimilarityValidator", {}),
        ("MinimumLengthValidator", {"min_length": 12}),
        ("CommonPasswordValidator", {}),
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "web.ui.accounts.InvitedOnly"
ACCOUNT_FORMS = {"login": "web.ui.accounts.LogInForm"}
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"  # staff make the accounts; nobody signs up
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Reclaim] "
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if _site.is_https else "http"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
# Failures of one name are counted by axes, in the database, so that all processes count together.
ACCOUNT_RATE_LIMITS = {
    "login_failed": "30/m/ip",
    "invitation": "20/m/ip",
    "receipt_check": "30/m/ip",
}
# A new address counts once its owner says so from its own mailbox; the old one is told.
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Reclaim"
AXES_ENABLE_ADMIN = False
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "web.ui.accounts.name_for_lockout"
AXES_LOCKOUT_CALLABLE = "web.ui.accounts.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

# ── Browser rules ────────────────────────────────────────────────────────────────────────────────
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],  # the QR code of a second factor is a data: picture
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
        "manifest-src": [SELF],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _site.is_https
# A __Host- cookie cannot be planted by a sister domain; browsers accept it on https alone.
SESSION_COOKIE_NAME = "__Host-reclaim-session" if _site.is_https else "reclaim-session"
CSRF_COOKIE_NAME = "__Host-reclaim-csrf" if _site.is_https else "reclaim-csrf"
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if _site.is_https else 0
if _site.is_behind_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# ── REST API ─────────────────────────────────────────────────────────────────────────────────────
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "web.api.credentials.PersonalKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "rest_framework.parsers.JSONParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "web.api.paging.CursorPages",
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "web.api.paging.Ordering",
    ],
    "DEFAULT_THROTTLE_CLASSES": [
        "web.api.credentials.PersonRate",
        "web.api.credentials.StrangerRate",
    ],
    "DEFAULT_THROTTLE_RATES": {"user": "1200/min", "anon": "300/min"},
    "EXCEPTION_HANDLER": "web.api.problems.answer",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Reclaim",
    "DESCRIPTION": "Licences, experts, withdrawals and evidence.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": enum_names(),
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "web.api.described.manners",
    ],
}

# ── Mail and log lines ───────────────────────────────────────────────────────────────────────────
DEFAULT_FROM_EMAIL = SERVER_EMAIL = _mail.sender
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if _mail.host else 'filebased'}.EmailBackend"
EMAIL_FILE_PATH = _places.mail
EMAIL_HOST, EMAIL_PORT = _mail.host, _mail.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.account, _mail.password
EMAIL_USE_SSL = _mail.use_ssl
EMAIL_TIMEOUT = 10
LOGGING_CONFIG = None
logs.arrange(CONFIGURATION.lines, sys.stderr)
