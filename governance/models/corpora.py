"""What is known of a corpus without its data: sources, sensitivity, sketches, reservations.

All append-only: a correction is a later row, and what was believed at any time can be read.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from governance.models.columns import append_only, identity, instant, sha256, words
from governance.models.licences import Corpus
from governance.models.owners import Account
from governance.vocabulary import SignalKind

MAX_SIGNAL_BYTES = 64 * 1024
SKETCH_SIZE = 512
"""Values of a sketch; the standard error of an overlap estimated from two is below 2.3 %."""


class CorpusProfile(models.Model):
    """The period a corpus stems from and what is sensitive in it. The newest counts."""

    id = identity()
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="profiles")
    period_from = models.DateField(null=True, blank=True)
    period_to = models.DateField(null=True, blank=True)
    sensitive = words()
    noted_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    noted_at = instant()

    class Meta:
        ordering = ("-noted_at",)
        triggers = append_only("corpus_profile")
        constraints = [
            models.CheckConstraint(
                name="corpus_profile_period_runs_forward",
                condition=Q(period_from__isnull=True)
                | Q(period_to__isnull=True)
                | Q(period_to__gte=F("period_from")),
            ),
        ]

    def __str__(self) -> str:
        return f"profile of {self.corpus}"


class CorpusSource(models.Model):
    """One source of a corpus and the licence it is under. A correction replaces the row.

    `licence` is an SPDX id or words of one's own; days are inclusive; `is_gone` says that what
    this row replaces is no longer in the corpus.
    """

    id = identity()
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="sources")
    title = models.CharField(max_length=200)
    licence = models.CharField(max_length=100)
    licence_url = models.URLField(max_length=500, blank=True)
    url = models.URLField(max_length=500, blank=True)
    rights_holder = models.CharField(max_length=200, blank=True)
    languages = words()
    document_count = models.PositiveIntegerField(default=0)
    text_bytes = models.PositiveBigIntegerField(default=0)
    period_from = models.DateField(null=True, blank=True)
    period_to = models.DateField(null=True, blank=True)
    replaces = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="replaced_by"
    )
    is_gone = models.BooleanField(default=False)
    noted_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    noted_at = instant()

    class Meta:
        ordering = ("title", "noted_at")
        triggers = append_only("corpus_source")
        constraints = [
            models.CheckConstraint(
                name="corpus_source_gone_says_what", condition=Q(is_gone=False) | ~Q(replaces=None)
            ),
            models.CheckConstraint(
                name="corpus_source_period_runs_forward",
                condition=Q(period_from__isnull=True)
                | Q(period_to__isnull=True)
                | Q(period_to__gte=F("period_from")),
            ),
        ]

    def __str__(self) -> str:
        return self.title


class CorpusSketch(models.Model):
    """What `reclaim sketch` made of the corpus at the owner's: a root and a MinHash sketch.

    The sketch holds, for each of `SKETCH_SIZE` fixed hash functions, the least hash of any shingle
    of the corpus. It tells nobody the text; whoever guesses a passage of `shingle_words` words can
    test whether it is one of those at most `SKETCH_SIZE` least ones. The newest sketch counts.
    """

    id = identity()
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="sketches")
    scheme = models.CharField(max_length=40)
    minima = ArrayField(models.BigIntegerField(), size=SKETCH_SIZE)
    shingle_words = models.PositiveSmallIntegerField()
    document_count = models.PositiveIntegerField()
    merkle_root = sha256(blank=True)
    digest = sha256()
    noted_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    noted_at = instant()

    class Meta:
        ordering = ("-noted_at",)
        verbose_name_plural = "corpus sketches"
        triggers = append_only("corpus_sketch")
        constraints = [
            models.CheckConstraint(
                name="corpus_sketch_is_whole", condition=Q(minima__len=SKETCH_SIZE)
            ),
        ]

    def __str__(self) -> str:
        return f"sketch of {self.corpus}"


class ReservationSignal(models.Model):
    """A reservation of rights, or its absence, as it was found at an address at a time.

    `reserves`: null where what was found says nothing of training. `raw` is what was found.
    """

    id = identity()
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="signals")
    kind = models.CharField(max_length=8, choices=SignalKind.choices())
    value = models.CharField(max_length=300)
    reserves = models.BooleanField(null=True)
    url = models.URLField(max_length=500)
    seen_at = models.DateTimeField()
    raw = models.BinaryField(max_length=MAX_SIGNAL_BYTES)
    digest = sha256()
    noted_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    noted_at = instant()

    class Meta:
        ordering = ("-seen_at", "-noted_at")
        triggers = append_only("reservation_signal")

    def __str__(self) -> str:
        return f"{SignalKind(self.kind).label} at {self.url}"
