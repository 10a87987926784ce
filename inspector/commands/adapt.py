"""`inspector adapt`: train residual adapters once, on data of other products; no product is trained for."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import load_config
from inspector.errors import UsageError

if TYPE_CHECKING:
    from inspector.detection.encoder import Encoder
    from inspector.training.adapting import Training
    from inspector.training.pairs import Pair, Source

DatasetArgument = Annotated[
    list[str], typer.Argument(help="Data sets with masks (MVTec layout, VisA …), or the word 'drawn'.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The file of adapters that is made (.safetensors).")]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the data.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Same seed and data, same adapters.")]
DrawnOption = Annotated[
    int, typer.Option(min=1, help="How many products 'drawn' means, a good and a bad picture of each.")
]
CacheOption = Annotated[
    Path | None, typer.Option(help="Keep the encoded pictures here; default: beside --out, removed at the end.")
]
LicenceOption = Annotated[str | None, typer.Option(help="Licence of the folders, where it is not recognised.")]
RestartOption = Annotated[bool, typer.Option("--restart", help="Begin afresh, whatever a broken-off run has left.")]


def adapt(
    datasets: DatasetArgument,
    out: OutOption,
    config: ConfigOption = None,
    epochs: EpochsOption = 10,
    seed: SeedOption = 0,
    drawn: DrawnOption = 400,
    cache: CacheOption = None,
    licence: LicenceOption = None,
    restart: RestartOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train residual adapters for the configured encoder on pictures of other products whose defects are marked.

    Set `encoder.adapters` to the result, and teach the products again. The encoder itself is not changed. A run that is
    broken off goes on with the same command.

    Exit codes: 0 done, 2 data or options are wrong, 3 encoder, 130 stopped (the same command goes on).

    Example: `inspector adapt drawn --drawn 400 --out adapters.safetensors`
    """
    from inspector.detection.adapters import save_adapters
    from inspector.detection.encoder import load_encoder
    from inspector.training.adapting import Cache, Settings, Training
    from inspector.training.pairs import warning_of

    console = Console(stderr=True)
    sources = [_source(name, licence, drawn, seed) for name in datasets]
    for warning in filter(None, map(warning_of, sources)):
        console.print(f"[yellow]note:[/] {warning}", highlight=False)
    encoder = load_encoder(load_config(config).encoder)
    if encoder.adapters is not None:
        raise UsageError("encoder.adapters is set, but adapters are trained on the bare encoder; leave the key out")
    described = [{"name": s.name, "licence": s.licence, "pairs": s.count, "sha256": s.sha256} for s in sources]
    identity = hashlib.sha256(json.dumps([encoder.fingerprint, seed, described]).encode()).hexdigest()
    state = out.with_name(f"{out.name}.state")
    place = cache / identity[:16] if cache is not None else out.with_name(f"{out.name}.cache") / identity[:16]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        pairs = Cache(place, sum(source.count for source in sources))
        training = Training(encoder, pairs, Settings(epochs=epochs, seed=seed), identity)
        if restart:
            state.unlink(missing_ok=True)
        if state.exists():
            training.resume(state)
            console.print(f"goes on after epoch {len(training.history)} of {epochs}", highlight=False)
        _run(console, encoder, training, pairs, sources, state)
        manifest = {
            "encoder": encoder.name,
            "tower_fingerprint": encoder.tower_fingerprint,
            "data": described,
            "settings": {"epochs": epochs, "seed": seed},
            "losses": training.history,
        }
        save_adapters(out, training.adapters, manifest)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from {state}", highlight=False)
        raise
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be written: {error.strerror}") from error
    state.unlink(missing_ok=True)
    if cache is None:
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # another run's pairs may lie beside them
            place.parent.rmdir()
    _tell(out, manifest, as_json)


def _source(name: str, licence: str | None, drawn: int, seed: int) -> "Source":
    from inspector.training import pairs

    return pairs.drawn_source(drawn, seed) if name == pairs.DRAWN else pairs.folder_source(Path(name), licence, seed)


def _run(
    console: Console,
    encoder: "Encoder",
    training: "Training",
    cache: Any,
    sources: "Sequence[Source]",
    state: Path,
) -> None:
    """Encode what is missing, then the epochs that are left; the state is written after each."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("encoding the pictures", total=cache.count)
        cache.fill(encoder, lambda number: _pair(sources, number, encoder.image_size), lambda: bar.advance(task))
        task = bar.add_task("training", total=training.steps_per_epoch * training.settings.epochs)
        bar.advance(task, training.steps_per_epoch * len(training.history))
        while not training.is_done:
            for loss in training.run_epoch():
                epoch = len(training.history) + 1
                bar.update(task, advance=1, description=f"epoch {epoch} of {training.settings.epochs}, loss {loss:.4f}")
            training.save(state)


def _pair(sources: "Sequence[Source]", number: int, side_px: int) -> "Pair":
    for source in sources:
        if number < source.count:
            return source.pair(number, side_px)
        number -= source.count
    raise IndexError(number)


def _tell(out: Path, manifest: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"adapters": str(out)} | manifest))
        return
    first, last = (", ".join(f"{k} {v:.4f}" for k, v in manifest["losses"][place].items()) for place in (0, -1))
    typer.echo(f"{out}: adapters for {manifest['encoder']}; loss of the first epoch: {first}; of the last: {last}")
    typer.echo("Set encoder.adapters to this file, and teach the products again.")
