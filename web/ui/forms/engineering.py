"""Forms about experts, audits, training and builds."""

from __future__ import annotations

from typing import Any

from django import forms

from governance.models import Corpus
from governance.services import exports
from web.ui.forms.fields import LongSelect


class ExpertForm(forms.Form):
    """Propose an expert: a place in the model for what a corpus teaches."""

    name = forms.SlugField(
        max_length=63, help_text="Small letters, digits and hyphens, such as news. It stays."
    )
    title = forms.CharField(max_length=200)
    corpus = forms.ModelChoiceField(Corpus.objects.all(), to_field_name="slug", widget=LongSelect)


class AuditForm(forms.Form):
    """Audit a revision again, on text the workers can read."""

    members_path = forms.CharField(
        label="Training documents", max_length=500, help_text="What the expert was trained on."
    )
    controls_path = forms.CharField(
        label="Held-out documents", max_length=500, help_text="Same source, never trained on."
    )
    windows = forms.IntegerField(initial=300, min_value=50, max_value=10_000)
    seed = forms.IntegerField(initial=1, min_value=0)


class TrainingForm(forms.Form):
    """Train an expert on our workers, beside the newest anchor."""

    corpus_path = forms.CharField(
        label="Training documents", max_length=500, help_text="A .jsonl.xz the workers can read."
    )
    heldout_path = forms.CharField(
        label="Held-out documents", max_length=500, required=False,
        help_text="Same source, never trained on; the audit compares with them.",
    )  # fmt: skip
    steps = forms.IntegerField(initial=280, min_value=2, max_value=1_000_000)
    batch_windows = forms.IntegerField(
        label="Windows a batch", initial=4, min_value=2, max_value=4096,
        help_text="Half are public text.",
    )  # fmt: skip
    context = forms.IntegerField(
        label="Tokens a window", initial=256, min_value=8, max_value=65_536,
        help_text="At most what the anchor was made for.",
    )  # fmt: skip
    peak_lr = forms.FloatField(
        label="Highest learning rate", initial=0.01, min_value=1e-7, max_value=1
    )
    seed = forms.IntegerField(initial=0, min_value=0)

    def order(self) -> dict[str, Any]:
        """A valid form as the order a worker carries out. One step in 28 warms up, and the router
        row learns at twice the rate, as in the recipe of the demonstration."""
        given = self.cleaned_data
        steps, peak_lr = int(given["steps"]), float(given["peak_lr"])
        return {
            "corpus_path": given["corpus_path"],
            "heldout_path": given["heldout_path"],
            "recipe": {
                "context": given["context"],
                "batch_windows": given["batch_windows"],
                "schedule": {"steps": steps, "warmup_steps": steps // 28},
                "peak_lr": peak_lr,
                "row_peak_lr": 2 * peak_lr,
                "seed": given["seed"],
            },
        }


class HandOutForm(forms.Form):
    """Give a build's files to somebody outside."""

    recipient = forms.CharField(
        max_length=exports.RECIPIENT_CHARACTERS, help_text="The organisation, as in its contract."
    )


class BuildForm(forms.Form):
    """Plan a build from what is active now."""

    reason = forms.CharField(max_length=200, initial="Requested by an engineer")
