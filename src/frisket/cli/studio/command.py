"""`frisket studio`: the page, served to this machine only."""

import socket
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

PORT = 8471


class NoStudio(ValueError):
    """The studio cannot be started here; the message says why and what to do."""


def open_studio(
    folder: Annotated[
        Path, typer.Argument(help="What to open: configurations and clips.")
    ] = Path(),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = PORT,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    sam: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of SAM 2, SAM 3, CLIPSeg ... for clicks and words; remembered for this"
            " folder. Repeatable.",
        ),
    ] = None,
) -> None:
    """See, paint, train and compare in one page, served to this machine's browser only.

    From elsewhere: `ssh -L 8471:127.0.0.1:8471 HOST`, and open the printed address here.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise NoStudio(f"the studio needs {error.name}: pip install 'frisket[studio]'") from error
    from frisket.studio.app import build_app
    from frisket.studio.guard import Credentials
    from frisket.studio.lock import lock_home
    from frisket.studio.server import run_server
    from frisket.studio.settings import remember_models
    from frisket.studio.state import Studio
    from frisket.studio.workspace import Workspace

    if not folder.is_dir():
        raise NoStudio(f"{folder}: no such folder; name one that exists, or make it first")
    studio = Studio(Workspace(folder))
    with lock_home(studio.home) as lock:
        if sam:
            remember_models(studio.home, sam)
        listener = _listen(port)
        credentials = Credentials(port=listener.getsockname()[1])
        lock.publish_address(credentials.address.partition("/start")[0])
        app = build_app(studio, credentials)
        typer.echo(f"Open {credentials.address}")
        typer.echo("Ctrl-C ends the page; jobs that run go on.")
        if browser:
            webbrowser.open(credentials.address)
        going_on = run_server(app, studio, listener)
    for title in going_on:
        typer.echo(f"still running: {title}")
    if going_on:
        typer.echo("`frisket studio` on this folder follows what runs, and stops it where asked.")


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # whoever opens the printed address at once waits, and is not refused
    except OSError as error:
        listener.close()
        raise NoStudio(
            f"--port {port}: {error.strerror}; does another studio run? --port 0 takes a free one"
        ) from error
    return listener
