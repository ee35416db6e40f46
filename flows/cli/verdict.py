"""`tca verdict`: what a promotion's record says, for those who wait for it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Ask what a promotion came to, or answer others.")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any.")] = 3010,
) -> None:
    """Answer GET /promotions/latest/verdict until stopped. With TCA_VERDICT_TOKEN set, who asks must send it."""
    import os

    from flows.settings import find_project
    from flows.verdict_server import VerdictServer

    token = os.environ.get("TCA_VERDICT_TOKEN", "").strip()
    with VerdictServer(find_project().records, host, port, token) as server:
        print(f"Ask: http://{host}:{server.server_address[1]}/promotions/latest/verdict", flush=True)
        server.serve_forever()


@app.command()
def ask(
    promotion: Annotated[str, typer.Argument(help="Number of the promotion, or latest.")] = "latest",
    version: Annotated[str, typer.Option(help="The challenger that is expected.")] = "",
    past: Annotated[str, typer.Option(help="State that must lie behind it: SHADOW, CANARY-1, ... DONE.")] = "DONE",
    wait: Annotated[float, typer.Option(min=0.0, help="How long to wait for an answer, s.")] = 0.0,
    url: Annotated[str, typer.Option(help="A verdict server; default: this project's records.")] = "",
) -> None:
    """Print the verdict as JSON. Exit codes: 0 go on, 1 it was rolled back or aborted, 3 neither in time."""
    from flows.verdict_client import wait_for_verdict

    answer = wait_for_verdict(promotion, version or None, past, wait, url)
    print(answer.model_dump_json(indent=1))
    raise typer.Exit({"advance": 0, "rollback": 1}.get(answer.verdict, 3))
