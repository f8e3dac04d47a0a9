"""Matrices of features as blocks: from files, AnnData and MuData, aligned by identifier; genotypes and their scores."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.finding import Verdict
from trialtwin.core.variables import Variable
from trialtwin.data.genome import Variant, Weight, polygenic_score, read_weights, require_dosages
from trialtwin.data.omics import FeatureMatrix, attach, check_block, from_anndata, from_mudata, read_matrix
from trialtwin.data.tabular import read_csv

VALUES = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]])


@pytest.fixture
def cohort() -> Cohort:
    """Return four patients of whom nothing but the age is known."""
    return Cohort(
        ids=("01", "02", "03", "04"),
        variables=(Variable("AGE"),),
        covariates=np.array([[60.0], [61], [62], [63]]),
        outcomes=(),
        visits=("Baseline",),
        nominal=np.zeros(1),
        times=np.zeros((4, 1)),
        values=np.zeros((4, 1, 0)),
        observed=np.zeros((4, 1, 0), dtype=bool),
        treatments=("placebo",),
        received=np.zeros(4, dtype=np.int64),
    )


def anndata(values: object = VALUES, names: tuple[str, ...] = ("03", "01", "02")) -> AnnData:
    data = AnnData(values)
    data.obs_names, data.var_names = list(names), ["NEFL", "GFAP"]
    return data


def test_a_block_is_aligned_by_identifier_and_nobody_is_dropped(cohort: Cohort) -> None:
    matrix = FeatureMatrix(("03", "01", "02"), ("NEFL", "GFAP"), VALUES)
    block = attach(cohort, "proteome", matrix).blocks["proteome"]
    np.testing.assert_array_equal(block.values, np.vstack([VALUES[[1, 2, 0]], [[np.nan, np.nan]]]))
    assert block.present.tolist() == [True, True, True, False]
    assert block.features == ("NEFL", "GFAP")


def test_a_patient_with_empty_cells_only_does_not_have_the_block(cohort: Cohort) -> None:
    empty = FeatureMatrix(("01", "02"), ("NEFL",), np.array([[np.nan], [1.0]]))
    assert attach(cohort, "proteome", empty).blocks["proteome"].present.tolist() == [False, True, False, False]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_give_the_matrix(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"subject": ["01", "02"], "NEFL": [8.1, 7.5], "GFAP": [None, 3.3]})
    path = tmp_path / f"proteome.{suffix}"
    if suffix == "csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    found = read_matrix(path, subject="subject")
    assert found.ids == ("01", "02")
    assert found.features == ("NEFL", "GFAP")
    np.testing.assert_array_equal(found.values, [[8.1, np.nan], [7.5, 3.3]])
    assert read_matrix(path, subject="subject", features=["GFAP"]).features == ("GFAP",)
    with pytest.raises(MismatchError, match=r"no (variable|column) patient"):
        read_matrix(path, subject="patient")


def test_whole_numbers_as_identifiers_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,a\n17,1.5\n", encoding="utf-8")
    assert read_matrix(tmp_path / "m.csv", subject="id").ids == ("17",)


def test_anndata_dense_sparse_layer_and_column(cohort: Cohort) -> None:
    dense = from_anndata(anndata())
    assert dense.ids == ("03", "01", "02")
    np.testing.assert_array_equal(dense.values, VALUES)
    data = anndata(sparse.csr_matrix(np.array([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])))
    np.testing.assert_array_equal(from_anndata(data).values, [[0, 2], [3, 0], [0, 0]])
    data.layers["log"] = np.log1p(data.X.toarray())
    data.obs["USUBJID"] = ["S3", "S1", "S2"]
    named = from_anndata(data, subject="USUBJID", layer="log")
    assert named.ids == ("S3", "S1", "S2")
    assert named.values[0, 1] == pytest.approx(np.log(3))
    with pytest.raises(MismatchError, match="no layer 'raw'"):
        from_anndata(data, layer="raw")
    with pytest.raises(MismatchError, match="obs has no column 'SUBJID'"):
        from_anndata(data, subject="SUBJID")
    with pytest.raises(DataError, match="is no AnnData object: it has no obs_names, var_names"):
        from_anndata(SimpleNamespace(X=VALUES))


def test_mudata_gives_each_modality_with_its_own_patients(cohort: Cohort) -> None:
    rna = AnnData(np.array([[1.0], [2.0]]))
    rna.obs_names, rna.var_names = ["01", "04"], ["APOE"]
    with warnings.catch_warnings():
        # mudata warns of its own future, and of that of pandas
        warnings.simplefilter("ignore")
        both = MuData({"rna": rna, "protein": anndata()})
    for name, matrix in from_mudata(both).items():
        cohort = attach(cohort, name, matrix)
    assert cohort.blocks["rna"].present.tolist() == [True, False, False, True]
    assert cohort.blocks["protein"].present.tolist() == [True, True, True, False]
    with pytest.raises(DataError, match="is no MuData object"):
        from_mudata(rna)


def test_faults_of_a_matrix_are_told() -> None:
    with pytest.raises(DataError, match=r"1 identifiers repeat(.|\n)*where: x.csv: 01"):
        FeatureMatrix(("01", "01"), ("a",), np.ones((2, 1)), "x.csv")
    with pytest.raises(DataError, match=r"1 features repeat(.|\n)*: a"):
        FeatureMatrix(("01",), ("a", "a"), np.ones((1, 2)))
    with pytest.raises(DataError, match=r"1 value\(s\) are infinite(.|\n)*: b"):
        FeatureMatrix(("01",), ("a", "b"), np.array([[1.0, np.inf]]))
    with pytest.raises(DataError, match="shape"):
        FeatureMatrix(("01",), ("a", "b"), np.ones((1, 1)))


def test_words_in_a_feature_are_told(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,a,b\nx,1.5,high\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b holds 1 value\(s\) that are no numbers(.|\n)*line 2: 'high'"):
        read_matrix(tmp_path / "m.csv", subject="id")
    assert read_matrix(tmp_path / "m.csv", subject="id", features=["a"]).values.tolist() == [[1.5]]
    pl.DataFrame({"id": ["x"], "b": ["high"]}).write_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match=r"1 feature\(s\) hold no numbers: b"):
        read_matrix(tmp_path / "m.parquet", subject="id")
    with pytest.raises(DataError, match=r"cannot be read from \.xlsx"):
        read_matrix(tmp_path / "m.xlsx", subject="id")


def test_rows_of_nobody_are_refused_unless_allowed(cohort: Cohort) -> None:
    matrix = FeatureMatrix(("01", "99"), ("a",), np.ones((2, 1)))
    with pytest.raises(MismatchError, match="1 of 2 rows are of nobody in the cohort: 99"):
        attach(cohort, "x", matrix)
    with_block = attach(cohort, "x", matrix, extra_ids=True)
    assert with_block.blocks["x"].present.sum() == 1
    with pytest.raises(DataError, match="has a block 'x' already"):
        attach(with_block, "x", matrix, extra_ids=True)
    with pytest.raises(DataError, match="no patient of the cohort has a row"):
        attach(cohort, "x", FeatureMatrix(("98", "99"), ("a",), np.ones((2, 1))), extra_ids=True)


def test_a_block_is_judged(cohort: Cohort) -> None:
    good = attach(cohort, "x", FeatureMatrix(("01", "02"), ("a",), np.array([[1.0], [2.0]])))
    assert check_block(good, "x").verdict is Verdict.PASS
    values = np.array([[1.0, 5.0, np.nan], [2.0, 5.0, np.nan], [3.0, np.nan, np.nan]])
    finding = check_block(attach(cohort, "x", FeatureMatrix(("01", "02", "03"), ("a", "b", "c"), values)), "x")
    assert finding.verdict is Verdict.FAIL
    assert finding.table is not None
    assert finding.table.column("number") == [3, 1, 3, 1, 1, 4]
    assert finding.table.column("which") == ["", "04", "", "c", "b", ""]
    with pytest.raises(MismatchError, match="no block 'y'"):
        check_block(good, "y")


DOSAGES = FeatureMatrix(
    ("p1", "p2", "p3"),
    ("rs1", "rs2", "rs3", "rs4", "rs5", "rs6"),
    np.array([[0.0, 2, 1, 1, 0, 1], [1, np.nan, 2, 0, 1, 1], [2, 0.5, 0, 2, 2, 1]]),
)
VARIANTS = (
    Variant("rs1", "A", "G"),
    Variant("rs2", "C", "T"),
    Variant("rs3", "A", "G"),
    Variant("rs4", "A", "G"),
    Variant("rs5", "A", "T"),
    Variant("rs6", "A", "G"),
)
WEIGHTS = (
    Weight("rs1", "A", "G", 0.5),
    Weight("rs2", "T", "C", 1.0),
    Weight("rs3", "T", "C", 0.1),
    Weight("rs4", "C", "T", -0.3),
    Weight("rs5", "A", "T", 5.0),
    Weight("rs6", "A", "C", 7.0),
    Weight("rs7", "A", "C", 0.2),
)


def test_a_polygenic_score_by_hand() -> None:
    """Two flips, two other strands, a missing dosage at the mean, one ambiguous strand, other alleles, one absent."""
    found = polygenic_score(DOSAGES, VARIANTS, WEIGHTS)
    assert list(found.use.values()) == [
        "as counted",
        "flipped",
        "other strand",
        "other strand, flipped",
        "ambiguous strand",
        "other alleles",
        "absent",
    ]
    rs2 = [0.0, (0 + 1.5) / 2, 1.5]
    expected = [
        0.5 * a + b + 0.1 * c - 0.3 * (2 - d) for a, b, c, d in zip([0, 1, 2], rs2, [1, 2, 0], [1, 0, 2], strict=True)
    ]
    np.testing.assert_allclose(found.score, expected)
    assert found.finding.verdict is Verdict.FAIL
    assert found.finding.text.startswith(f"{1.9 / 14.1:.0%} of the sum")
    with_ambiguous = polygenic_score(DOSAGES, VARIANTS, WEIGHTS, ambiguous=True, least_found=0.4)
    np.testing.assert_allclose(with_ambiguous.score, np.array(expected) + 5.0 * np.array([0, 1, 2]))
    assert with_ambiguous.finding.verdict is Verdict.PASS


def test_dosages_and_weights_that_cannot_be_are_refused(tmp_path: Path) -> None:
    bad = FeatureMatrix(("p1",), ("rs1", "rs2"), np.array([[2.5, 1.0]]), "g.csv")
    with pytest.raises(DataError, match=r"1 dosage\(s\) lie outside 0 to 2, from 1 to 2.5(.|\n)*g.csv: rs1"):
        require_dosages(bad)
    never = FeatureMatrix(("p1",), ("rs1", "rs2"), np.array([[1.0, np.nan]]))
    found = polygenic_score(never, VARIANTS[:2], WEIGHTS[:2])
    assert found.use == {"rs1": "as counted", "rs2": "absent"}
    assert found.score.tolist() == [0.5]
    with pytest.raises(DataError, match="no weight could be used"):
        polygenic_score(DOSAGES, VARIANTS, [Weight("rs99", "A", "G", 1.0)])
    with pytest.raises(DataError, match="have no column: rs99"):
        polygenic_score(DOSAGES, [Variant("rs99", "A", "G")], WEIGHTS)
    path = tmp_path / "w.csv"
    path.write_text("rsID,effect_allele,other_allele,effect_weight\nrs1,a,g,0.5\nrs2,T,C,-1\n", encoding="utf-8")
    assert read_weights(read_csv(path)) == (Weight("rs1", "A", "G", 0.5), Weight("rs2", "T", "C", -1.0))
    path.write_text("rsID,effect_allele,other_allele,effect_weight\nrs1,A,G,0.5\nrs1,A,,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="empty cell"):
        read_weights(read_csv(path))
    path.write_text("rsID,effect_allele,other_allele,effect_weight\nrs1,A,G,0.5\nrs1,A,C,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="variants repeat"):
        read_weights(read_csv(path))
