"""Figures 8 and 9: what is sampled, what is averaged, that near stays near, and what is refused."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import InputError
from artifacts.files import write_csv, write_json
from eval.embedding_plots import DRAWINGS, read_embeddings
from eval.embeddings import COLUMNS, embed, features_of_layer, mean_features, sample_tokens, tsne, with_frames
from eval.frames import FrameSource, feature_frames
from eval.segments import Segment
from eval.style import save_figure
from units.features import FeatureWriter

RATE_HZ = 50.0
PHONES = ("AH0", "T", "S", "N", "L", "CH")


def token(phone: str, onset: str = "0", offset: str = "0.1", fileid: str = "a", speaker: str = "s1") -> Segment:
    return Segment(fileid, Decimal(onset), Decimal(offset), phone, speaker)


def write_features(folder: Path, frames: dict[str, np.ndarray], layer: int = 1) -> Path:
    config = {"encoder": "spidr", "layer": layer, "frame_rate_hz": RATE_HZ}
    with FeatureWriter(folder, config, dtype="float32") as writer:
        for fileid, each in frames.items():
            writer.write(fileid, each)
    return folder


def clusters(tokens_of_each: int) -> tuple[list[Segment], dict[str, np.ndarray]]:
    """Tokens of 100 ms one after the other; the features of a phone lie around a place of their own."""
    rng = np.random.default_rng(0)
    tokens, frames = [], []
    for index in range(tokens_of_each * len(PHONES)):
        phone = index % len(PHONES)
        onset = Decimal(index) / 10
        tokens.append(Segment("a", onset, onset + Decimal("0.1"), PHONES[phone], f"s{index % 2}"))
        frames.append(10 * np.eye(16)[phone] + rng.normal(size=(5, 16)))
    return tokens, {"a": np.concatenate(frames).astype(np.float32)}


def test_at_most_ten_of_each_phone_of_each_speaker_and_so_many_in_all() -> None:
    tokens = [token(phone, fileid=f"{i}", speaker=s) for s in ("x", "y") for phone in ("T", "S") for i in range(30)]
    tokens += [token("N", fileid=f"{i}", speaker="x") for i in range(3)]
    drawn = sample_tokens(tokens, seed=0)
    assert Counter((t.speaker, t.label) for t in drawn) == {
        **{(speaker, phone): 10 for speaker in ("x", "y") for phone in ("T", "S")},
        ("x", "N"): 3,
    }
    assert drawn == sample_tokens(tokens, seed=0) != sample_tokens(tokens, seed=1)
    assert drawn == [t for t in tokens if t in drawn]
    assert len(sample_tokens(tokens, seed=0, most=7)) == 7


def test_a_token_is_the_mean_of_the_frames_whose_centres_it_holds(tmp_path: Path) -> None:
    frames = {name: np.random.default_rng(i).normal(size=(10, 4)).astype(np.float32) for i, name in enumerate("ab")}
    source = feature_frames(write_features(tmp_path / "features", frames))
    tokens = [token("T", "0.02", "0.07", "b"), token("S", "0", "0.2", "a"), token("N", "0.15", "0.151", "b")]
    found = mean_features(tokens, source)
    for vector, each in zip(found, tokens, strict=True):
        held = [i for i in range(10) if float(each.onset) <= (i + 0.5) / RATE_HZ <= float(each.offset)]
        assert vector == pytest.approx(frames[each.fileid][held].mean(0), abs=1e-6)


def test_a_phone_between_two_centres_or_past_the_end_is_left_out() -> None:
    source = FrameSource(Path("features"), RATE_HZ, {"a": 20}, lambda _: np.zeros((20, 1)))
    held = [token("T", f"{0.02 * i:.2f}", f"{0.02 * i + 0.02:.2f}") for i in range(8)]
    between, past, absent = token("S", "0.011", "0.012"), token("S", "0.3", "0.5"), token("S", fileid="b")
    assert with_frames([between, *held, past, absent], source) == held
    with pytest.raises(InputError, match="features: found 7 of 8 phones with frames, expected 8 at least"):
        with_frames([*held[:7], between], source)


def test_what_is_near_stays_near_and_the_seed_decides() -> None:
    tokens, frames = clusters(20)
    source = FrameSource(Path("features"), RATE_HZ, {"a": len(frames["a"])}, frames.__getitem__)
    vectors = mean_features(tokens, source)
    places = tsne(vectors, seed=0)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag([np.inf] * len(places))
    nearest = distances.argmin(1)
    assert all(tokens[i].label == tokens[j].label for i, j in enumerate(nearest))
    assert np.array_equal(places, tsne(vectors, seed=0))


def embedded(tmp_path: Path, genders: dict[str, str]) -> Path:
    tokens, frames = clusters(5)
    source = feature_frames(write_features(tmp_path / "features", frames))
    about = {"encoder": "spidr", "layer": 1, "dataset": "dev"}
    write_csv(tmp_path / "embeddings.csv", COLUMNS, embed(source, tokens, genders, about, seed=0))
    return tmp_path / "embeddings.csv"


def offsets(collections: Sequence[object]) -> int:
    return sum(len(each.get_offsets()) for each in collections)  # type: ignore[attr-defined]


def test_every_phone_is_drawn_by_class_by_gender_and_by_phone(tmp_path: Path) -> None:
    embeddings = read_embeddings(embedded(tmp_path, {"s0": "f", "s1": ""}))
    assert len(embeddings) == 5 * len(PHONES)
    classes, genders = DRAWINGS[8](embeddings, "SpidR").axes
    assert offsets(classes.collections) == offsets(genders.collections) == len(embeddings)
    assert {text.get_text() for text in genders.get_legend().get_texts()} == {"Female", "Unknown"}
    figure = DRAWINGS[9](embeddings, "SpidR")
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(panels) == ["Vowels", "Stops", "Affricates", "Fricatives", "Nasals", "Approximants"]
    assert all(offsets(axes.collections) == len(embeddings) for axes in panels.values())
    assert [text.get_text() for text in panels["Vowels"].texts] == ["ə"]
    save_figure(figure, tmp_path / "figure_09")
    assert (tmp_path / "figure_09.pdf").read_bytes().startswith(b"%PDF")


def test_a_speaker_who_is_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="speakers: found no s1, who speaks in the item file"):
        embedded(tmp_path, {"s0": "f"})
    assert not (tmp_path / "embeddings.csv").exists()


def test_the_selected_layer_is_taken_of_several(tmp_path: Path) -> None:
    folders = [write_features(tmp_path / f"L0{k}", {"a": np.zeros((3, 2), np.float32)}, layer=k) for k in (1, 2)]
    selection = tmp_path / "spidr.json"
    write_json(selection, {"encoder": "spidr", "layer": 2})
    assert features_of_layer(folders, selection).folder == folders[1]
    assert features_of_layer(folders[:1], None).folder == folders[0]
    with pytest.raises(InputError, match="--features: found 2 layers, expected --selection beside them"):
        features_of_layer(folders, None)
    write_json(selection, {"encoder": "spidr", "layer": 7})
    with pytest.raises(InputError, match=r"--features: found none of spidr, layer 7, which .*spidr\.json selects"):
        features_of_layer(folders, selection)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("spidr,1,dev,T,f,0,nan\n", "line 2: y: found"),
        ("spidr,1,dev,T,x,0,0\n", "line 2: gender: found 'x', expected f, m or nothing"),
        ("spidr,1,dev,T,f,0,0\nspidr,2,dev,T,f,0,0\n", "line 3: found layer 2 of spidr, expected layer 1 of spidr"),
        ("", "found no phone, expected some"),
    ],
)
def test_a_malformed_table_is_one_line(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "embeddings.csv"
    path.write_text("encoder,layer,dataset,phone,gender,x,y\n" + rows)
    with pytest.raises(InputError, match=message):
        read_embeddings(path)
