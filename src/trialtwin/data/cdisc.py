"""CDISC data sets from files of any format that we know, checked to be the data set that is wanted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from trialtwin.core.errors import DataError, MachineError
from trialtwin.data.dataset import DataSet
from trialtwin.data.datasetjson import read_dataset_json, write_dataset_json
from trialtwin.data.files import listing, require_file, require_folder
from trialtwin.data.structure import require_content, require_events, require_findings, require_subjects, require_times
from trialtwin.data.tabular import read_csv, read_parquet, write_csv, write_parquet
from trialtwin.data.xport import read_xport, write_xport

SUFFIXES = (".xpt", ".json", ".ndjson", ".csv", ".parquet")
_NAMED = (".xpt", ".json", ".ndjson")
_WRITERS: Mapping[str, Callable[[DataSet, Path], None]] = {
    ".xpt": write_xport,
    ".json": write_dataset_json,
    ".ndjson": write_dataset_json,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


@dataclass(frozen=True, eq=False)
class TrialTables:
    """The data sets of a trial.

    Parameters
    ----------
    subjects
        One row a subject (ADSL).
    findings
        Measurements over time (BDS), by the names that a ``Layout`` knows them by.
    events
        Adverse events (ADAE).
    times
        Times to events (ADTTE).
    """

    subjects: DataSet
    findings: Mapping[str, DataSet]
    events: DataSet | None = None
    times: DataSet | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", MappingProxyType(dict(self.findings)))

    def finding(self, name: str) -> DataSet:
        """Return a measurement data set by name, upper and lower case alike.

        Raises
        ------
        DataError
            If there is none of that name.
        """
        for known, dataset in self.findings.items():
            if known.upper() == name.upper():
                return dataset
        raise DataError(f"no data set {name!r} was read", exists=self.findings, do="name it in the study's data")

    def sources(self) -> dict[str, str]:
        """Return the hash of each file by data set name, those without one left out."""
        present = [self.subjects, *self.findings.values(), self.events, self.times]
        return {table.name: table.sha256 for table in present if table is not None and table.sha256}


def read_dataset(
    path: Path | str,
    *,
    expect: str = "",
    mapping: Mapping[str, str] | None = None,
    missing: Sequence[str] = ("",),
    encoding: str = "utf-8",
) -> DataSet:
    """Read one data set; the suffix tells the format.

    Parameters
    ----------
    path
        ``.xpt`` (SAS transport 5), ``.json`` or ``.ndjson`` (Dataset-JSON 1.1), ``.csv`` or ``.parquet``.
    expect
        Name of the data set that it should be, such as ``"ADSL"``; a file that holds another one is refused.
    mapping
        Our column name to the file's, for CSV and Parquet.
    missing
        Texts that stand for a missing value in CSV, such as ``("", "NA", ".")``.
    encoding
        Of the characters in SAS transport and CSV; the other formats are UTF-8.

    Raises
    ------
    DataError
        If the file is missing (with what is in the folder), broken, of an unknown format, or another data set.
    MismatchError
        If a column that the expected data set must have is missing.
    MachineError
        If it cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    require_file(path)
    if mapping and suffix in _NAMED:
        raise DataError(
            f"a mapping of columns is for CSV and Parquet; {path.name} has CDISC's names",
            where=str(path),
            do="leave the mapping out",
        )
    if suffix == ".xpt":
        dataset = read_xport(path, encoding=encoding)
    elif suffix in _NAMED:
        dataset = read_dataset_json(path)
    elif suffix == ".csv":
        # Spreadsheets put a byte order mark in front of UTF-8.
        charset = "utf-8-sig" if encoding == "utf-8" else encoding
        dataset = read_csv(path, mapping=mapping, name=expect.upper(), missing=missing, encoding=charset)
    elif suffix == ".parquet":
        dataset = read_parquet(path, mapping=mapping, name=expect.upper())
    else:
        raise DataError(f"unknown format {path.suffix!r}", where=str(path), exists=SUFFIXES)
    if expect:
        _require_name(dataset, expect, named=suffix in _NAMED)
        require_content(dataset, expect)
    return dataset


def _require_name(dataset: DataSet, expect: str, *, named: bool) -> None:
    """Refuse a file that says itself that it holds another data set."""
    if named and dataset.name.upper() != expect.upper():
        raise DataError(
            f"{Path(dataset.source).name} holds the data set {dataset.name}, where {expect.upper()} is wanted",
            where=dataset.source,
            do="correct the path, or the name under which the study asks for it",
        )


def write_dataset(dataset: DataSet, path: Path | str) -> None:
    """Write one data set in the format that the suffix tells, or nothing.

    Raises
    ------
    DataError
        If the format is unknown, or cannot hold the data set.
    MachineError
        If the disk is full or the folder cannot be written to; nothing is left behind then.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise DataError(f"unknown format {path.suffix!r}", where=str(path), exists=SUFFIXES)
    _WRITERS[path.suffix.lower()](dataset, path)


def read_folder(
    folder: Path | str,
    names: Iterable[str],
    *,
    mappings: Mapping[str, Mapping[str, str]] | None = None,
    missing: Sequence[str] = ("",),
    encoding: str = "utf-8",
) -> dict[str, DataSet]:
    """Read data sets of a folder by name; each is ``<name>.<suffix>`` there, upper and lower case alike.

    Parameters
    ----------
    folder
        Where they lie.
    names
        Names without suffix; the result has them as keys.
    mappings
        A column mapping for each name that needs one.
    missing, encoding
        As in ``read_dataset``, for every file.

    Raises
    ------
    DataError
        If a data set is missing, lies there in two formats, or is another one than its name says.
    MachineError
        If a file cannot be read.
    """
    folder = Path(folder)
    require_folder(folder)
    maps = {name.upper(): mapping for name, mapping in (mappings or {}).items()}
    paths = {name: find(folder, name) for name in names}
    return {
        name: read_dataset(path, expect=name, mapping=maps.get(name.upper()), missing=missing, encoding=encoding)
        for name, path in paths.items()
    }


def find(folder: Path, name: str) -> Path:
    """Find the file of a data set in a folder.

    Raises
    ------
    DataError
        If there is none, with the files that there are; or if there are several.
    """
    try:
        files = listing(folder)
    except OSError as error:
        raise MachineError(f"cannot list the folder: {error.strerror}", where=str(folder)) from error
    known = [file for file in files if Path(file).suffix.lower() in SUFFIXES]
    found = [file for file in known if Path(file).stem.upper() == name.upper()]
    if len(found) > 1:
        raise DataError(
            f"the data set {name} lies there in {len(found)} files",
            where=str(folder),
            exists=found,
            do="choose one: move the others elsewhere, or give the folder that holds one format",
        )
    if not found:
        raise DataError(
            f"no data set {name} in the folder",
            where=str(folder),
            exists=known or files or ("(nothing: the folder is empty)",),
            do=f"name a data set that is there, or copy {name}.xpt, .json, .ndjson, .csv or .parquet into it",
        )
    return folder / found[0]


def read_tables(
    folder: Path | str,
    *,
    subjects: str = "adsl",
    findings: Sequence[str] = ("adqsadas",),
    events: str | None = None,
    times: str | None = None,
    mappings: Mapping[str, Mapping[str, str]] | None = None,
    missing: Sequence[str] = ("",),
    encoding: str = "utf-8",
) -> TrialTables:
    """Read the data sets of a trial from a folder; arguments as in ``read_folder``.

    Raises
    ------
    DataError
        If a data set is missing, lies there in two formats, is broken, or is another one than its name says.
    MismatchError
        If one lacks a column that its role asks for.
    MachineError
        If a file cannot be read.
    """
    names = [name for name in (subjects, *findings, events, times) if name]
    tables = read_folder(folder, names, mappings=mappings, missing=missing, encoding=encoding)
    require_subjects(tables[subjects])
    for name in findings:
        require_findings(tables[name])
    if events:
        require_events(tables[events])
    if times:
        require_times(tables[times])
    return TrialTables(
        subjects=tables[subjects],
        findings={name: tables[name] for name in findings},
        events=tables[events] if events else None,
        times=tables[times] if times else None,
    )


def write_tables(tables: TrialTables, folder: Path | str, *, suffix: str = ".xpt") -> list[Path]:
    """Write the data sets of a trial into a folder, each under its name, and return their paths.

    Raises
    ------
    DataError
        If the format is unknown, or cannot hold one of them.
    MachineError
        If the disk is full or the folder cannot be written to.
    """
    present = [tables.subjects, *tables.findings.values(), tables.events, tables.times]
    paths = []
    for dataset in present:
        if dataset is not None:
            path = Path(folder) / f"{dataset.name.lower()}{suffix}"
            write_dataset(dataset, path)
            paths.append(path)
    return paths
