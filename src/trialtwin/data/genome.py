"""Genotypes as dosages of an allele, and polygenic scores from a table of weights.

A score is Σ_j w_j d_ij over variants j, d the dosage (0 to 2) of the effect allele. Where the file counts the other
allele, the dosage is 2 − d. Where both alleles are each other's complement (A/T, C/G), the strand cannot be told from
the alleles: such variants are left out unless they are asked for. A missing dosage enters as twice the frequency of the
effect allele among those measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import DataError
from trialtwin.core.finding import Column, Finding, Table, Verdict
from trialtwin.data.dataset import DataSet
from trialtwin.data.omics import FeatureMatrix

COMPLEMENT = {"A": "T", "T": "A", "C": "G", "G": "C"}
USES = ("as counted", "flipped", "other strand", "other strand, flipped", "ambiguous strand", "other alleles", "absent")


@dataclass(frozen=True)
class Variant:
    """A variant of a genotype matrix: its name there, the allele that dosages count, and the other one."""

    name: str
    counted: str
    other: str


@dataclass(frozen=True)
class Weight:
    """A line of a table of weights: the variant, the allele that the weight is for, the other one, the weight."""

    name: str
    effect: str
    other: str
    weight: float


@dataclass(frozen=True, eq=False)
class PolygenicScore:
    """A score for each row of the matrix, and how each line of the table of weights was used."""

    ids: tuple[str, ...]
    score: Float[np.ndarray, " row"]
    use: dict[str, str]
    finding: Finding


def require_dosages(matrix: FeatureMatrix) -> None:
    """Refuse a matrix with a dosage outside 0 to 2.

    Raises
    ------
    DataError
        With the variants and the range found.
    """
    outside = (matrix.values < 0) | (matrix.values > 2)
    if outside.any():
        named = [matrix.features[j] for j in np.flatnonzero(outside.any(axis=0))[:10]]
        raise DataError(
            f"{int(outside.sum())} dosage(s) lie outside 0 to 2, from {np.nanmin(matrix.values):g} "
            f"to {np.nanmax(matrix.values):g}",
            where=f"{matrix.source}: {', '.join(named)}",
            do="give the expected number of copies of the counted allele; use NaN where it was not called",
        )


def read_weights(
    table: DataSet,
    *,
    name: str = "rsID",
    effect: str = "effect_allele",
    other: str = "other_allele",
    weight: str = "effect_weight",
) -> tuple[Weight, ...]:
    """Return a table of weights, with the column names of the PGS Catalog unless others are given.

    Raises
    ------
    DataError
        If a cell is empty, a weight is no number, or a variant repeats.
    MismatchError
        If a column does not exist.
    """
    table.require(name, effect, other, weight, purpose="for a polygenic score")
    if not table.frame.schema[weight].is_numeric():
        raise DataError(f"{weight} holds values that are no numbers", where=table.source)
    rows = table.frame.select(name, effect, other, weight).rows()
    empty = [i for i, row in enumerate(rows) if any(cell is None for cell in row)]
    if empty:
        raise DataError(
            f"{len(empty)} row(s) of weights have an empty cell", where=f"{table.source}: row {empty[0] + 1}"
        )
    names = [str(row[0]) for row in rows]
    if len(set(names)) < len(names):
        raise DataError(
            "variants repeat in the table of weights", where=f"{table.source}: {max(names, key=names.count)}"
        )
    return tuple(Weight(str(n), str(e).upper(), str(o).upper(), float(w)) for n, e, o, w in rows)


def polygenic_score(
    dosages: FeatureMatrix,
    variants: Sequence[Variant],
    weights: Sequence[Weight],
    *,
    ambiguous: bool = False,
    least_found: float = 0.5,
) -> PolygenicScore:
    """Return the polygenic score of each row, and a finding that says how each weight was used.

    Parameters
    ----------
    dosages
        Copies of the counted allele, 0 to 2, NaN where missing.
    variants
        Alleles of the matrix's columns; columns that are not named are not used.
    weights
        The table of weights.
    ambiguous
        Use variants whose strand cannot be told, taking both files to be on the same one.
    least_found
        The finding fails where less than this share of the sum of absolute weights could be used.

    Raises
    ------
    DataError
        If a dosage lies outside 0 to 2, a named variant has no column, or no weight can be used.

    References
    ----------
    Choi SW, Mak TSH, O'Reilly PF (2020), doi:10.1038/s41596-020-0353-1.

    Examples
    --------
    >>> import numpy as np
    >>> dosages = FeatureMatrix(("p1", "p2"), ("rs1", "rs2"), np.array([[0.0, 2.0], [1.0, np.nan]]))
    >>> variants = [Variant("rs1", "A", "G"), Variant("rs2", "C", "T")]
    >>> weights = [Weight("rs1", "A", "G", 0.5), Weight("rs2", "T", "C", 1.0)]
    >>> found = polygenic_score(dosages, variants, weights)
    >>> found.score.tolist(), found.use["rs2"]
    ([0.0, 0.5], 'flipped')
    """
    require_dosages(dosages)
    column = {name: j for j, name in enumerate(dosages.features)}
    known = _located(dosages, variants)
    score, use, lost = np.zeros(len(dosages.ids)), {}, 0.0
    for line in weights:
        use[line.name] = how = _use(line, known.get(line.name), ambiguous=ambiguous)
        if how in USES[4:]:
            lost += abs(line.weight)
            continue
        dosage = dosages.values[:, column[line.name]]
        copies = 2 - dosage if how.endswith("flipped") else dosage
        score += line.weight * np.where(np.isfinite(copies), copies, np.nanmean(copies))
    total = sum(abs(line.weight) for line in weights)
    if not any(how in USES[:4] for how in use.values()):
        raise DataError(
            "no weight could be used", exists=dosages.features, do="name variants the same way in both files"
        )
    return PolygenicScore(dosages.ids, score, use, _finding(use, 1 - lost / total if total else 0.0, least_found))


def _located(dosages: FeatureMatrix, variants: Sequence[Variant]) -> dict[str, Variant]:
    """Return variants by name, those that were called in somebody; all must have a column."""
    there = set(dosages.features)
    lacking = [variant.name for variant in variants if variant.name not in there]
    if lacking:
        raise DataError(f"{len(lacking)} variant(s) have no column: {', '.join(lacking[:5])}", where=dosages.source)
    called = dict(zip(dosages.features, np.isfinite(dosages.values).any(axis=0), strict=True))
    return {variant.name: variant for variant in variants if called[variant.name]}


def _use(line: Weight, variant: Variant | None, *, ambiguous: bool) -> str:
    """Tell how a weight can be used with a variant: one of ``USES``."""
    if variant is None:
        return "absent"
    here, wanted = (variant.counted.upper(), variant.other.upper()), (line.effect, line.other)
    turned = tuple(COMPLEMENT.get(allele, "") for allele in here)
    if turned == here[::-1] and set(here) == set(wanted) and not ambiguous:
        return "ambiguous strand"
    pairs = {"as counted": here, "flipped": here[::-1], "other strand": turned, "other strand, flipped": turned[::-1]}
    return next((how for how, pair in pairs.items() if pair == wanted), "other alleles")


def _finding(use: dict[str, str], share: float, least: float) -> Finding:
    counts = [(how, sum(one == how for one in use.values())) for how in USES]
    return Finding(
        id="polygenic-score",
        section="data",
        title="Polygenic score",
        verdict=Verdict.PASS if share >= least else Verdict.FAIL,
        text=f"{share:.0%} of the sum of absolute weights was used; variants of ambiguous strand are left out.",
        table=Table(columns=(Column(name="use", label="Use"), Column(name="n", label="Variants")), rows=tuple(counts)),
    )
