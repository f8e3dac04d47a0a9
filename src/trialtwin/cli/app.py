"""Commands of the command line, their options, and what becomes of errors.

Exit codes: 0 done; 1 done, and something was found wrong (a failed check, a difference); 2 the command line or the
study file; 3 the data; 4 a fit; 5 the machine; 130 stopped by the user.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from trialtwin.cli.progress import waiting
from trialtwin.core.errors import InterruptedRunError, TrialTwinError

app = typer.Typer(
    name="trialtwin",
    help="Digital twins for clinical trials: forecast each patient, adjust the trial, show the evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Study = Annotated[Path, typer.Argument(help="Study file (TOML); write one with 'trialtwin init'.", show_default=False)]
DataFolder = Annotated[Path, typer.Option("--data", help="Folder with the data sets.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder in which the run gets a folder of its own.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed instead of the study file's.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]


@app.command()
def demo(
    out: Out = Path("runs"),
    seed: Seed = None,
    patients: Annotated[int, typer.Option(help="Number of patients to simulate.", min=60, max=5000)] = 250,
    as_json: AsJson = False,
) -> None:
    """Simulate an example trial, run it from data to report, and say where the report is."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.commands import run_demo

    run_demo(out, seed, patients, as_json=as_json)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Study file to write.")] = Path("study.toml"),
    data: Annotated[Path | None, typer.Option("--data", help="Folder of ADaM files to read arms, visits from.")] = None,
    paramcd: Annotated[str | None, typer.Option(help="Parameter of the endpoint, with --data.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study file to edit: the example trial's, or one filled in from your data sets."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.commands import write_study

    write_study(path, data, paramcd, as_json=as_json)


@app.command()
def check(
    study: Study,
    data: DataFolder,
    against: Annotated[
        Path | None, typer.Option("--against", help="Folder of another version of the data sets to compare with.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge whether the data are fit to use, or compare two versions of them; writes nothing."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.commands import check_data, compare_versions

    if against is None:
        check_data(study, data, as_json=as_json)
    else:
        compare_versions(study, data, against, as_json=as_json)


@app.command()
def run(study: Study, data: DataFolder, out: Out = Path("runs"), seed: Seed = None, as_json: AsJson = False) -> None:
    """Run a study from its data sets to its report; the same command again resumes what was interrupted."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.commands import run_file

    run_file(study, data, out, seed, as_json=as_json)


@app.command()
def compare(
    study: Study,
    data: DataFolder,
    model: Annotated[
        list[str] | None, typer.Option(help="A model to compare, such as baseline; repeat. All that fit if none.")
    ] = None,
    disease: Annotated[
        str | None, typer.Option(help="Disease of mechanistic and hybrid models; the study file's if not given.")
    ] = None,
    by: Annotated[str, typer.Option(help="What folds are made of: patient, site or time.")] = "patient",
    site: Annotated[str | None, typer.Option(help="Covariate that names the site, for --by site.")] = None,
    day: Annotated[float | None, typer.Option(help="Day after which nothing is known, for --by time.")] = None,
    folds: Annotated[int, typer.Option(help="Folds.", min=2)] = 5,
    repeats: Annotated[int, typer.Option(help="How often patients are shared out anew.", min=1)] = 1,
    known: Annotated[
        list[float] | None, typer.Option(help="Day up to which forecast patients are known; repeat. 0 if none.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each patient.", min=32, max=100_000)] = 256,
    curve_patients: Annotated[list[int] | None, typer.Option(help="Learn from so many patients too; repeat.")] = None,
    curve_visits: Annotated[list[int] | None, typer.Option(help="Learn from so many visits too; repeat.")] = None,
    curve_blocks: Annotated[bool, typer.Option("--curve-blocks", help="Learn without, and from each block.")] = False,
    out: Out = Path("runs"),
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Compare kinds of twins on a study's untreated patients: same folds, same information; keep the winner."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.compare import compare_twins

    settings = {
        "by": by,
        "site": site,
        "day": day,
        "folds": folds,
        "repeats": repeats,
        "known": tuple(known or (0.0,)),
        "draws": draws,
        "patients": tuple(curve_patients or ()),
        "visits": tuple(curve_visits or ()),
        "blocks": curve_blocks,
    }
    compare_twins(study, data, out, models=model or [], disease=disease, settings=settings, seed=seed, as_json=as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write the report of a finished run again from its dossier."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.commands import write_report_again

    write_report_again(folder, as_json=as_json)


@app.command()
def schema(
    path: Annotated[Path | None, typer.Option("--out", help="File to write instead of the screen.")] = None,
) -> None:
    """Print the JSON Schema of the study file."""
    with waiting("Loading", silent=True):
        from trialtwin.cli.commands import print_schema

    print_schema(path)


@app.command()
def replay(
    trials: Annotated[
        list[str] | None,
        typer.Argument(help="Trial files (TOML), or names of trials that ship; all that ship without any."),
    ] = None,
    readouts: Annotated[
        Path | None, typer.Option(help="Table of published numbers (CSV) instead of those in the trial files.")
    ] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Calibrate on the readouts anew.")] = False,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Foretell each trial from all others, and judge intervals.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Calibration (JSON) to use, or to begin from, instead of the one that ships.")
    ] = None,
    out: Out = Path("runs"),
    seed: Seed = None,
    patients: Annotated[int, typer.Option(help="Virtual patients in each arm.", min=32, max=8192)] = 256,
    show_schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the trial file.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the trials that ship.")] = False,
    as_json: AsJson = False,
) -> None:
    """Foretell published trials with the calibrated disease model, and hold them against what was observed."""
    with waiting("Loading", silent=as_json or show_schema):
        from trialtwin.cli.replay import list_trials, print_trial_schema, replay_trials

    if show_schema:
        print_trial_schema()
    elif show_list:
        list_trials()
    else:
        replay_trials(
            trials or [],
            out,
            readouts=readouts,
            calibration=calibration,
            calibrate=calibrate,
            leave_one_out=leave_one_out,
            patients=patients,
            seed=seed,
            as_json=as_json,
        )


@app.command()
def treat(
    question: Annotated[
        Path | None, typer.Argument(help="Question (TOML): disease, candidates, endpoint, weights.", show_default=False)
    ] = None,
    patients: Annotated[Path | None, typer.Option(help="Patients (CSV or Parquet): id and what is known.")] = None,
    population: Annotated[int, typer.Option(help="Virtual patients, where no file is given.", min=1)] = 20,
    drug: Annotated[
        list[str] | None, typer.Option(help="A candidate, such as 'lecanemab: 10 mg/kg over 1h q2w'; repeat.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="Points of benefit that an event is worth: ARIA-E=0.5; repeat.")
    ] = None,
    disease: Annotated[str | None, typer.Option(help="Disease model; alzheimer if not given.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Scale; CDR-SB for Alzheimer's.")] = None,
    weeks: Annotated[float | None, typer.Option(help="Length of follow-up; 78 if not given.")] = None,
    draws: Annotated[int | None, typer.Option(help="Draws of each patient; 64 if not given.")] = None,
    card: Annotated[list[str] | None, typer.Option(help="Patient who gets a card; the first 20 if none.")] = None,
    out: Out = Path("runs"),
    seed: Seed = None,
    show_schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the question.")] = False,
    as_json: AsJson = False,
) -> None:
    """Treat virtual patients with candidate drugs: benefit, risk, the chance of being best, and by which route."""
    with waiting("Loading", silent=as_json or show_schema):
        from trialtwin.cli.treat import print_treat_schema, treat_patients

    if show_schema:
        print_treat_schema()
        return
    options = {"disease": disease, "endpoint": endpoint, "weeks": weeks, "draws": draws, "seed": seed}
    treat_patients(
        question,
        patients=patients,
        population=population,
        drugs=drug or [],
        weights=weight or [],
        options=options,
        cards=card or [],
        out=out,
        as_json=as_json,
    )


@app.command()
def design(
    path: Annotated[Path, typer.Argument(help="Page to write, or to check where it is there already.")] = Path(
        "power.toml"
    ),
    as_json: AsJson = False,
) -> None:
    """Write a page that describes a trial to simulate, to be edited; or check one and say what it describes."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.power import check_or_write

    check_or_write(path, as_json=as_json)


@app.command()
def power(
    page: Annotated[
        Path, typer.Argument(help="Page with the design (TOML); write one with 'trialtwin design'.", show_default=False)
    ],
    trials: Annotated[
        int | None, typer.Option(help="Trials a scenario, instead of the page's.", min=2, max=1_000_000)
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes to simulate in.", min=1)] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler to simulate on, such as tcp://10.0.0.5:8786.")
    ] = None,
    out: Out = Path("runs"),
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a design with twins good, weak and wrong: type I error, power, bias, coverage, with their errors."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.power import simulate_design

    where = {"workers": workers, "scheduler": scheduler}
    simulate_design(page, out, trials, seed, where=where, as_json=as_json)


@app.command()
def simulate(
    page: Annotated[
        Path, typer.Argument(help="Page with the design (TOML); write one with 'trialtwin design'.", show_default=False)
    ],
    truth: Annotated[str | None, typer.Option(help="Truth of the page, by name; the first if none.")] = None,
    rho: Annotated[float | None, typer.Option(help="Twin of the page, by correlation; the first if none.")] = None,
    drift: Annotated[float | None, typer.Option(help="Twin of the page, by drift; the first if none.")] = None,
    scale: Annotated[float | None, typer.Option(help="Twin of the page, by scale; the first if none.")] = None,
    trial: Annotated[int, typer.Option(help="Number of the trial, as 'trialtwin power' counts them.", min=0)] = 0,
    suffix: Annotated[str, typer.Option("--format", help="json, ndjson, csv, parquet or xpt.")] = "json",
    out: Out = Path("runs"),
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Simulate one trial of a page and write it as ADaM data sets, with a note of seed, design and truth."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.power import write_simulated

    twin = {"rho": rho, "drift": drift, "scale": scale}
    write_simulated(page, out, truth=truth, twin=twin, trial=trial, suffix=suffix, seed=seed, as_json=as_json)


@app.command()
def analyse(
    page: Annotated[
        Path, typer.Argument(help="Page that names data, endpoints and methods (TOML); an example if it is not there.")
    ] = Path("analyse.toml"),
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with the data sets, instead of the page's.")
    ] = None,
    out: Out = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Analyse a finished trial by the methods of a page; write an example page where there is none."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.analyse import write_or_analyse

    write_or_analyse(page, data, out, as_json=as_json)


@app.command()
def qualify(
    file: Annotated[Path, typer.Option("--file", help="Where the table is written.")] = Path("qualification.md"),
    as_json: AsJson = False,
) -> None:
    """Qualify the installation: compute numbers that are known and write whether they agree."""
    with waiting("Loading", silent=as_json):
        from trialtwin.cli.qualify import qualify_installation

    qualify_installation(file, as_json=as_json)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Digital twins for clinical trials: forecast each patient, adjust the trial, show the evidence."""
    if show:
        from trialtwin import __version__

        typer.echo(f"trialtwin {__version__}")
        raise typer.Exit
    del context


def run_app() -> None:
    """Run the command line; errors of ours become words on stderr (or JSON) and an exit code."""
    try:
        app()
    except TrialTwinError as error:
        _say(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        stopped = InterruptedRunError(
            "stopped by the user", do="run the same command again: finished steps are not repeated"
        )
        _say(stopped)
        sys.exit(stopped.exit_code)


def _say(error: TrialTwinError) -> None:
    """Print an error to stderr, as JSON where that was asked for."""
    if "--json" in sys.argv:
        content = {
            "error": {
                "kind": type(error).__name__,
                "what": error.what,
                "where": error.where,
                "exists": list(error.exists),
                "do": error.do,
                "exit_code": error.exit_code,
            }
        }
        typer.echo(json.dumps(content, ensure_ascii=False), err=True)
    else:
        typer.echo(f"error: {error}", err=True)
