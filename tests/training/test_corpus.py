import pandas as pd
import pytest
from pymatgen.core import Composition

from matsearch.crystal.wyckoff import from_compact
from matsearch.errors import InputError
from matsearch.training.corpus import build_corpus, parse_entry


def test_all_that_is_not_held_out_is_in_the_corpus(corpus, crystals):
    missing = set(crystals["material_id"]) - set(corpus["material_id"])
    assert missing == {"x-1-1-0", "x-2-2-0"}


def test_texts_read_back_as_the_crystals_they_stand_for(corpus):
    for row in corpus.itertuples():
        assert (
            from_compact(row.text).composition.fractional_composition == Composition(row.formula).fractional_composition
        )


def test_labels_go_with_their_crystals(corpus, energies):
    for row in corpus.itertuples():
        assert row.energy_above_hull == energies[row.material_id]
        assert row.density == pytest.approx(from_compact(row.text).density, rel=0.02)
    assert corpus["bulk_modulus"].isna().all()


def test_bulk_moduli_are_taken_over_where_the_structures_are_the_same(data, splits, crystals, tmp_path):
    stiff = crystals[crystals["material_id"] == "x-5-3-0"].copy()
    stiff["material_id"], stiff["K_VRH_GPa"] = "y-1", 152.0
    stiff.to_parquet(tmp_path / "stiff.parquet")
    corpus = build_corpus(data, [splits], tmp_path, elasticity=tmp_path / "stiff.parquet")
    assert corpus[corpus["bulk_modulus"].notna()]["material_id"].tolist() == ["x-5-3-0"]


def test_what_is_far_above_the_hull_is_left_out(data, splits, energies, tmp_path):
    corpus = build_corpus(data, [splits], tmp_path, energies=5 * energies)
    assert not corpus["material_id"].str.endswith("-1").any()


def test_an_interrupted_build_goes_on_and_a_finished_one_is_kept(data, splits, energies, corpus, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("matsearch.training.corpus.encode", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_corpus(data, [splits], tmp_path, energies=energies)
    assert (tmp_path / "free.parquet").is_file()
    again = build_corpus(data, [splits], tmp_path, energies=energies)
    pd.testing.assert_frame_equal(again, corpus)
    pd.testing.assert_frame_equal(build_corpus(tmp_path / "gone", [], tmp_path), corpus)


def test_nothing_left_is_said(data, tmp_path):
    with pytest.raises(InputError, match="may be trained on; check what is held out"):
        build_corpus(data, [data], tmp_path)


def test_entry_of_a_text():
    entry = parse_entry("crystal Ti 2 O 4 : sg136 4.59 2.96 : Ti a O f 37/120 end", "TiO2", density=4.2)
    assert entry.counts == {"Ti": 2, "O": 4}
    assert entry.elements == {"Ti", "O"}
    assert entry.space_group == 136
    assert (entry.density, entry.energy_above_hull) == (4.2, None)
