"""RSL documents, built after the examples of RSL 1.0 (sections named); parties are ours."""

import pytest

from governance.errors import InvalidTerms
from governance.exchange import Direction, load
from governance.exchange.rsl import reserves

NAMESPACE = "https://rslstandard.org/rsl"


def document(inside, *, attributes='url="/"', beside=""):
    licence = f"<license>{inside}</license>" if inside is not None else ""
    return (
        f'<rsl xmlns="{NAMESPACE}"><content {attributes}>{licence}{beside}</content></rsl>'
    ).encode()


def read(inside, **more):
    return load("rsl", document(inside, **more))


TRAIN = '<permits type="usage">ai-train</permits>'


def test_a_permission_to_train_for_free_is_taken_over_whole():
    found = read(TRAIN + '<payment type="free"/>')
    assert found.terms_fields["uses"] == ["train"]
    assert found.terms_fields["payment_type"] == "free"
    assert found.losses == ()


def test_a_licence_without_payment_is_free():
    assert read(TRAIN).terms_fields["payment_type"] == "free"


def test_after_3_4_a_licence_for_grounding_in_two_places_grants_no_training():
    found = read(
        '<permits type="usage">ai-input</permits><permits type="user">non-commercial education'
        '</permits><permits type="geo">US EU</permits>'
    )
    assert found.terms_fields["uses"] == []
    assert Direction.REFUSED in {loss.direction for loss in found.losses}


def test_classes_and_places_narrow_and_ask_for_confirmation():
    found = read(
        TRAIN + '<permits type="user">non-commercial education</permits>'
        '<permits type="geo">EU US</permits><prohibits type="geo">FR</prohibits>'
    )
    terms = found.terms_fields
    assert terms["recipient_classes"] == ["education", "non_commercial"]
    assert terms["territories"] == ["EU", "US"]
    assert terms["excluded_territories"] == ["FR"]
    assert [loss.direction for loss in found.losses] == [Direction.CONFIRM]


def test_prohibited_classes_leave_the_others():
    found = read(TRAIN + '<prohibits type="user">commercial government</prohibits>')
    assert found.terms_fields["recipient_classes"] == ["education", "non_commercial", "personal"]


def test_all_uses_by_ai_are_read_as_training_and_answering():
    found = read('<permits type="usage">ai-all</permits><payment type="use"/>')
    assert found.terms_fields["uses"] == ["answer", "train"]
    assert found.terms_fields["payment_type"] == "use"


def test_after_3_7_a_price_is_kept_in_words_and_its_currency_taken():
    price = '<payment type="training"><amount currency="USD">0.015</amount></payment>'
    found = read(TRAIN + price)
    assert found.terms_fields["currency"] == "USD"
    owed = {"action": "compensate", "about": "0.015 USD (training)"}
    assert found.terms_fields["duties"] == [owed]
    assert {loss.direction for loss in found.losses} == {Direction.CONFIRM}


def test_a_collective_licence_behind_a_server_asks_for_confirmation():
    payment = '<payment type="use"><standard>https://collective.example/l</standard></payment>'
    server = 'url="/" server="https://licences.example/"'
    found = read('<permits type="usage">ai-all</permits>' + payment, attributes=server)
    assert {"server", "payment"} <= {loss.term for loss in found.losses}


def test_credit_is_required_where_it_is_the_price():
    assert (
        read(TRAIN + '<payment type="attribution"/>').terms_fields["requires_attribution"] is True
    )


def test_after_3_13_warranties_are_named_as_unsaid():
    found = read(TRAIN + '<legal type="warranty">ownership authority</legal>')
    assert [(loss.term, loss.direction) for loss in found.losses] == [("legal", Direction.UNSAID)]


def test_the_surroundings_of_a_licence_are_named():
    beside = "<terms>https://birch.example/t</terms><copyright>Birch</copyright>"
    assert {loss.term for loss in read(TRAIN, beside=beside).losses} == {"terms", "copyright"}


@pytest.mark.parametrize(
    "inside",
    [
        '<permits type="usage">search</permits>',
        '<permits type="user">education</permits>',
        TRAIN + '<payment type="donation"/>',
        TRAIN + '<reporting type="audit" profile="https://birch.example/p"/>',
        TRAIN + '<prohibits type="user">robots</prohibits>',
        TRAIN + '<prohibits type="geo">Atlantis</prohibits>',
        TRAIN + '<permits type="weather">rain</permits>',
        TRAIN + "<embargo/>",
        TRAIN + '<prohibits type="usage">ai-train</prohibits>',
        TRAIN + '<prohibits type="usage">unheard-of</prohibits>',
        "",
    ],
)
def test_what_we_cannot_keep_to_grants_nothing(inside):
    assert read(inside).terms_fields["uses"] == []


def test_a_prohibition_in_one_licence_binds_the_other():
    beside = '<license><prohibits type="usage">ai-train</prohibits></license>'
    found = read(TRAIN, beside=beside)
    assert found.terms_fields["uses"] == []
    assert "train" in found.terms_fields["prohibited_uses"]


def test_the_second_of_two_offers_is_named_and_not_mixed_in():
    beside = f'<license>{TRAIN}<payment type="free"/></license>'
    found = read(TRAIN + '<payment type="subscription"/>', beside=beside)
    assert found.terms_fields["payment_type"] == "subscription"
    assert ("licence", Direction.REFUSED) in {(e.term, e.direction) for e in found.losses}


def test_only_the_first_asset_is_read():
    two = (
        f'<rsl xmlns="{NAMESPACE}"><content url="/a"><license>{TRAIN}</license></content>'
        f'<content url="/b"/></rsl>'
    ).encode()
    assert ("target", "/b") in {(loss.term, loss.value) for loss in load("rsl", two).losses}


def test_an_asset_without_a_licence_grants_nothing():
    assert read(None).terms_fields["uses"] == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"not xml", "no XML"),
        (b"<rsl/>", "the element rsl"),
        (f'<rsl xmlns="{NAMESPACE}"/>'.encode(), "none in it"),
        (b'<!DOCTYPE r [<!ENTITY a "b">]><rsl>&a;</rsl>', "a document type or an entity"),
        (b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><rsl/>', "a document type or an entity"),
    ],
)
def test_what_is_no_rsl_is_refused_with_a_reason(body, problem):
    with pytest.raises(InvalidTerms, match=problem):
        load("rsl", body)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (TRAIN, False),
        (TRAIN + '<payment type="use"/>', True),
        ('<prohibits type="usage">ai-train</prohibits>', True),
        ('<permits type="usage">search</permits>', None),
    ],
)
def test_a_document_reserves_what_it_prohibits_or_prices(inside, said):
    assert reserves(document(inside)) is said
