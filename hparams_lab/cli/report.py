"""`hparams-lab report`."""

from __future__ import annotations

from pathlib import Path

import click

from hparams_lab.cli.grouping import group_option
from hparams_lab.cli.paths import PATH
from hparams_lab.cli.ranking import Rule, ranking_options
from hparams_lab.core.errors import MissingExtraError
from hparams_lab.logdir.reader import GroupBy


@click.command(short_help="Write a report as one HTML file.")
@click.argument("logdir", type=PATH)
@click.option(
    "-o", "--output", type=PATH, default=Path("report.html"), show_default=True, help="The file."
)
@ranking_options
@group_option
@click.option(
    "--png", type=PATH, metavar="DIR", help="Write each plot as a picture into DIR too."
)
@click.option("--predictions", is_flag=True, help="Show the best model's predictions; runs the domain's code.")
@click.option("--force", is_flag=True, help="Replace what exists.")
@click.option("--open", "opened", is_flag=True, help="Open the report in the browser.")
def command(
    logdir: Path,
    output: Path,
    rule: Rule,
    group_by: GroupBy,
    png: Path | None,
    predictions: bool,
    force: bool,
    opened: bool,
) -> None:
    """Write what LOGDIR tells as one HTML page.

    It opens offline and on a phone: the best trial and how sure that is, what mattered, plots of how the trials
    compare, learning curves, failures by their cause, and a table of the trials.

    \b
    Examples:
      hparams-lab report logs/digits
      hparams-lab report logs/digits -o digits.html --metric hploss --min --open
      hparams-lab report logs/digits --png plots --force
      hparams-lab report logs/digits --predictions
      hparams-lab report lightning_logs --group-by hparams
    """
    import webbrowser

    from hparams_lab.analysis.export import appearing, check_target
    from hparams_lab.analysis.report.pictures import check_pictures, draw_pictures, write_pictures
    from hparams_lab.analysis.report.predictions import predictions_section
    from hparams_lab.analysis.report.sections import report
    from hparams_lab.analysis.report.study import Study
    from hparams_lab.core.present import Counts, said_with
    from hparams_lab.logdir.reader import read

    plotly_js = _plotly_js()
    check_target(output, force)
    results = read(logdir, group_by=group_by)
    study = Study.of(results, logdir.resolve().name or str(logdir), rule.metric, rule.goal, rule.by)
    made = report(study, predictions_section(study, logdir, predictions))
    if png:
        check_pictures(png, made.plots, force)
    pictures = draw_pictures(made.plots) if png else {}
    with appearing(output, force) as file:
        file.write(made.html(plotly_js).encode())
    click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {Counts.of(results)}")
    if png:
        write_pictures(png, pictures)
        click.echo(f"{png}: {said_with(len(pictures), 'picture')}")
    if opened:
        webbrowser.open(output.resolve().as_uri())


def _plotly_js() -> str:
    """The source of plotly.js, which its Python package carries."""
    import importlib.resources

    try:
        return (importlib.resources.files("plotly") / "package_data/plotly.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        raise MissingExtraError.of("plotly, which draws the plots,", "report") from None
