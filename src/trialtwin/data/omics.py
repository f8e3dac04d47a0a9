"""Omics layers as blocks of a cohort: matrices with feature names, from files, AnnData or MuData.

A matrix has a row a patient and a column a feature, with the identifiers of both. It becomes a ``Block`` of a cohort by
identifier: a patient who is not in the matrix does not have the block, and nobody is dropped.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from trialtwin.core.arrays import owned
from trialtwin.core.cohort import Block, Cohort
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.finding import Column, Finding, Table, Verdict
from trialtwin.data.cells import read_cells
from trialtwin.data.dataset import DataSet, Field, Storage
from trialtwin.data.tabular import read_csv, read_parquet

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """A matrix of features: one row a sample.

    Parameters
    ----------
    ids
        Identifier of each row, such as USUBJID.
    features
        Name of each column.
    values : shape (row, feature)
        Measurements; NaN where missing.
    source
        Where it came from, for messages.

    Raises
    ------
    DataError
        If shapes disagree, identifiers or features repeat, or a value is infinite.
    """

    ids: tuple[str, ...]
    features: tuple[str, ...]
    values: Float[np.ndarray, "row feature"]
    source: str = ""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.ids), len(self.features)):
            raise DataError(
                f"a matrix of shape {self.values.shape} for {len(self.ids)} identifiers, {len(self.features)} features",
                where=self.source,
            )
        for what, names in (("identifiers", self.ids), ("features", self.features)):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise DataError(
                    f"{len(twice)} {what} repeat in a feature matrix",
                    where=f"{self.source}: {', '.join(twice[:10])}",
                    do="keep one of each, or average replicates before",
                )
        bad = np.isinf(self.values)
        if bad.any():
            named = [self.features[j] for j in np.flatnonzero(bad.any(axis=0))[:10]]
            raise DataError(
                f"{int(bad.sum())} value(s) are infinite",
                where=f"{self.source}: {', '.join(named)}",
                do="look for a logarithm of 0; use NaN for a missing value",
            )
        object.__setattr__(self, "values", owned(self.values))


def read_matrix(
    path: Path | str, *, subject: str, features: Sequence[str] | None = None, missing: Sequence[str] = ("", "NA")
) -> FeatureMatrix:
    r"""Read a matrix with one row a patient from CSV or Parquet.

    Parameters
    ----------
    path
        The file; its suffix says which.
    subject
        Column with the patient's identifier.
    features
        Columns to take; all others without it.
    missing
        Texts of a CSV file that stand for a missing value.

    Raises
    ------
    DataError
        If the file cannot be read, a feature is no number, or what ``FeatureMatrix`` refuses.
    MismatchError
        If a column does not exist.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "proteome.csv"
    ...     _ = file.write_text("subject,NEFL,GFAP\n01,8.1,NA\n02,7.5,3.3\n")
    ...     read_matrix(file, subject="subject").values.tolist()
    [[8.1, nan], [7.5, 3.3]]
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"a feature matrix cannot be read from {suffix or 'a file without a suffix'}", exists=SUFFIXES)
    if suffix == ".parquet":
        return matrix_of(read_parquet(path), subject=subject, features=features)
    header = read_cells(path).header
    wanted = [name for name in header if name != subject] if features is None else list(features)
    # a protein's name such as NEFL would pass for a CDISC flag: what is a number is said, not inferred
    fields = [Field(subject, Storage.CHAR), *(Field(name, Storage.NUM) for name in wanted)]
    return matrix_of(read_csv(path, fields=fields, missing=missing), subject=subject, features=wanted)


def matrix_of(table: DataSet, *, subject: str, features: Sequence[str] | None = None) -> FeatureMatrix:
    """Return a data set's columns as a matrix; all but the identifier where no features are named.

    Raises
    ------
    DataError
        If a feature is no number, an identifier is missing, or what ``FeatureMatrix`` refuses.
    MismatchError
        If a column does not exist.
    """
    wanted = tuple(name for name in table.frame.columns if name != subject) if features is None else tuple(features)
    table.require(subject, *wanted, purpose="for a feature matrix")
    words = [name for name in wanted if not table.frame.schema[name].is_numeric()]
    if words:
        raise DataError(
            f"{len(words)} feature(s) hold no numbers: {', '.join(words[:10])}",
            where=table.source,
            do="name the features to take, or say which texts stand for a missing value",
        )
    if table.frame[subject].null_count():
        raise DataError(f"{table.frame[subject].null_count()} row(s) have no {subject}", where=table.source)
    names = table.frame[subject]
    ids = names.cast(pl.Int64).cast(pl.String) if names.dtype.is_float() else names.cast(pl.String)
    values = table.frame.select(wanted).to_numpy().astype(float) if wanted else np.zeros((table.frame.height, 0))
    return FeatureMatrix(tuple(ids.to_list()), wanted, values, table.source)


def from_anndata(data: Any, *, subject: str = "", layer: str = "") -> FeatureMatrix:
    """Return an AnnData object as a matrix: observations are patients, variables are features.

    Anything with ``obs_names``, ``var_names`` and ``X`` will do; nothing is imported for it. X may be sparse: what a
    sparse matrix does not store is 0, and not missing.

    Parameters
    ----------
    data
        The object.
    subject
        Column of ``data.obs`` with the patient's identifier, where the observation's name is another one.
    layer
        Name in ``data.layers``, in place of X.

    Raises
    ------
    DataError
        If it is no such object, or what ``FeatureMatrix`` refuses.
    MismatchError
        If the layer or the column does not exist.
    """
    lacking = [name for name in ("obs_names", "var_names", "X") if not hasattr(data, name)]
    if lacking:
        raise DataError(f"a {type(data).__name__} is no AnnData object: it has no {', '.join(lacking)}")
    if layer and layer not in data.layers:
        raise MismatchError(f"no layer {layer!r}", exists=map(str, data.layers))
    if subject and subject not in data.obs:
        raise MismatchError(f"obs has no column {subject!r}", exists=map(str, data.obs))
    raw = data.layers[layer] if layer else data.X
    if raw is None:
        raise DataError("the AnnData object has no X", exists=map(str, data.layers), do="name one of its layers")
    dense = raw.toarray() if hasattr(raw, "toarray") else raw
    ids = data.obs[subject] if subject else data.obs_names
    return FeatureMatrix(
        tuple(map(str, ids)), tuple(map(str, data.var_names)), np.asarray(dense, dtype=float), "AnnData object"
    )


def from_mudata(data: Any, *, subject: str = "") -> dict[str, FeatureMatrix]:
    """Return each modality of a MuData object (``.mod``) as a matrix; patients may be in some of them only.

    Raises
    ------
    DataError
        If it has no modalities, or what ``from_anndata`` refuses.
    """
    modalities = getattr(data, "mod", None)
    if not modalities:
        raise DataError(f"a {type(data).__name__} is no MuData object: it has no modalities (.mod)")
    return {str(name): from_anndata(one, subject=subject) for name, one in modalities.items()}


def attach(cohort: Cohort, name: str, matrix: FeatureMatrix, *, extra_ids: bool = False) -> Cohort:
    """Return the cohort with a block, aligned by identifier; patients without a row do not have the block.

    A patient all of whose cells are missing does not have it either.

    Parameters
    ----------
    name
        Of the block.
    extra_ids
        Allow rows of people who are not in the cohort, and leave them out.

    Raises
    ------
    DataError
        If the cohort has a block of that name, or no patient has a row.
    MismatchError
        If a row is of nobody in the cohort and ``extra_ids`` is not set.
    """
    if name in cohort.blocks:
        raise DataError(f"the cohort has a block {name!r} already", exists=cohort.blocks)
    place = {patient: i for i, patient in enumerate(matrix.ids)}
    unknown = sorted(set(matrix.ids) - set(cohort.ids))
    if unknown and not extra_ids:
        raise MismatchError(
            f"{len(unknown)} of {len(matrix.ids)} rows are of nobody in the cohort: {', '.join(unknown[:5])}",
            where=matrix.source,
            exists=cohort.ids[:5],
            do="correct the identifiers, or allow extra_ids",
        )
    values = np.full((len(cohort), len(matrix.features)), np.nan)
    rows = [(i, place[patient]) for i, patient in enumerate(cohort.ids) if patient in place]
    if not rows:
        raise DataError(f"no patient of the cohort has a row of {name!r}", where=matrix.source, exists=matrix.ids[:5])
    here, there = np.array(rows).T
    values[here] = matrix.values[there]
    block = Block(matrix.features, values, np.isfinite(values).any(axis=1))
    return replace(cohort, blocks=MappingProxyType(dict(cohort.blocks) | {name: block}))


def check_block(cohort: Cohort, name: str) -> Finding:
    """Return what a reader should know of a block: who lacks it, and which features say nothing.

    It fails where a feature was measured in nobody or is the same in all, which no twin can learn from.

    Raises
    ------
    MismatchError
        If there is no such block.
    """
    if name not in cohort.blocks:
        raise MismatchError(f"no block {name!r}", exists=cohort.blocks)
    block = cohort.blocks[name]
    values = np.where(block.present[:, None], block.values, np.nan)
    known = np.isfinite(values)
    low = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
    never, flat = ~known.any(axis=0), known.any(axis=0) & (high == low)
    rows: list[tuple[str, int, str]] = [
        ("patients with the block", int(block.present.sum()), ""),
        ("patients without it", int((~block.present).sum()), _names(cohort.ids, ~block.present)),
        ("features", len(block.features), ""),
        ("features measured in nobody", int(never.sum()), _names(block.features, never)),
        ("features the same in all", int(flat.sum()), _names(block.features, flat)),
        ("cells missing where the block is there", int((~known[block.present]).sum()), ""),
    ]
    bad = int(never.sum() + flat.sum())
    return Finding(
        id=f"block-{name}",
        section="data",
        title=f"Block {name}",
        verdict=Verdict.FAIL if bad else Verdict.PASS,
        text=f"{rows[0][1]} of {len(cohort)} patients have it; {bad} of {len(block.features)} features say nothing.",
        table=Table(
            columns=tuple(Column(name=name, label=name) for name in ("what", "number", "which")),
            rows=tuple(rows),
        ),
    )


def _names(names: Sequence[str], chosen: Bool[np.ndarray, " name"]) -> str:
    """Return the first few of the chosen names."""
    found = [name for name, yes in zip(names, chosen, strict=True) if yes]
    return ", ".join(found[:5]) + (f", … ({len(found) - 5} more)" if len(found) > 5 else "")
