"""The assistant in the terminal.

By hand::

    python -m stages.assistant index              # read what is new or changed
    python -m stages.assistant index --rebuild    # read everything anew
    python -m stages.assistant ask "Which criterion keeps melanoma recall best at half the MACs?" --why
    python -m stages.assistant papers             # download those of papers/manifest.yaml
"""

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import get_args

from stages import command
from stages.assistant import explain, library
from stages.assistant.assistant import Assistant, Response
from stages.assistant.passages import Kind
from stages.assistant.settings import load
from stages.errors import InputError


def main() -> None:
    """Run the command that the command line names."""
    for library_name in ("bm25s", "chromadb"):
        logging.getLogger(library_name).propagate = False  # they set their levels when they are imported
    parser = command.Parser(prog="python -m stages.assistant", description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, default=Path("assistant.yaml"), help="its settings")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=command.Parser)
    index = commands.add_parser("index", help="read what is new or changed of papers, docs and results")
    index.add_argument("--rebuild", action="store_true", help="read everything anew")
    asked = commands.add_parser("ask", help="answer a question by quoting the sources")
    asked.add_argument("question")
    asked.add_argument("--passages", type=int, choices=range(3, 11), metavar="3…10", help="how many are shown")
    asked.add_argument("--sources", nargs="+", choices=get_args(Kind), help="which kinds are searched")
    asked.add_argument("--why", action="store_true", help="say why each passage was found")
    commands.add_parser("papers", help="download the papers of the manifest")
    arguments = parser.parse_args()
    settings = load(arguments.settings)
    if arguments.command == "papers":
        library.download(Path(settings.papers), print)
        return
    if arguments.command == "ask" and not arguments.question.strip():
        raise InputError("ask: the question is empty")
    if arguments.command == "index" and arguments.rebuild:
        shutil.rmtree(settings.index, ignore_errors=True)
    assistant = Assistant(Path.cwd(), settings, lambda line: print(line, file=sys.stderr))
    _update(assistant)
    if arguments.command == "ask":
        response = assistant.ask(arguments.question, arguments.passages or settings.passages, arguments.sources)
        _print(response)
        if arguments.why:
            _explain(assistant, response)


def _update(assistant: Assistant) -> None:
    """Bring the index up to date; say on stderr what was read and what could not be."""
    begun = time.monotonic()
    changes = assistant.update(lambda path, share: print(f"{share:4.0%} {path}", file=sys.stderr))
    for path, reason in changes.refused:
        print(f"{path}: {reason}; left out", file=sys.stderr)
    for path, other in changes.same:
        print(f"{path}: the same content as {other}; left out", file=sys.stderr)
    if changes.read or changes.removed:
        seconds = time.monotonic() - begun
        print(
            f"read {len(changes.read)} files ({changes.tokens:,} tokens in {seconds:.1f} s), removed "
            f"{len(changes.removed)}, {len(changes.kept)} are as they were: "
            f"{len(assistant.search.passages)} passages",
            file=sys.stderr,
        )


def _print(response: Response) -> None:
    """Print the answer, then where its passages stand."""
    if response.trouble:
        print(f"no language model: {response.trouble}", file=sys.stderr)
    if response.claims:
        for claim in response.claims:
            print(f"{claim.text} {''.join(f'[{number}]' for number in claim.citations)}{_doubt(claim.why)}")
    elif response.claims is not None or not response.answer.quotes:
        print("Not in the sources.")
    else:
        for quote in response.answer.quotes:
            print(f"“{quote.sentence.text}” [{quote.passage}]")
    print()
    for number, hit in enumerate(response.found.shown, 1):
        print(f"[{number}] {hit.passage.source}, {hit.passage.places} (cosine {hit.cosine:.3f}, BM25 {hit.bm25:.2f})")


def _doubt(why: str) -> str:
    return f" (unsupported: {why})" if why else ""


def _explain(assistant: Assistant, response: Response) -> None:
    """Print for each passage what its rank is made of, by sentence and by term, and why not the next."""
    search, found = assistant.search, response.found
    for number, hit in enumerate(found.shown, 1):
        print(
            f"\n[{number}] {hit.passage.source}, {hit.passage.places}: rank {hit.fused_rank}, "
            f"by meaning {hit.dense_rank} (cosine {hit.cosine:.3f}), by terms {hit.bm25_rank or 'none'} "
            f"(BM25 {hit.bm25:.2f})"
        )
        for drop in explain.without_each_sentence(search, found, hit):
            print(f"  without it {-drop.cosine:+.3f} cosine, {-drop.bm25:+.2f} BM25: {drop.sentence}")
        shares = explain.by_term(search, found, hit)
        if shares:
            print("  by term: " + ", ".join(f"{word} {share:.2f}" for word, share in shares.items()))
        for pair in explain.across(search, found, hit, list(shares)):
            print(f"  meets: {pair.asked} and {pair.found} (cosine {pair.cosine:.3f})")
        if number < len(found.shown):
            print(f"  before [{number + 1}], since " + explain.instead_of(search, found, hit, found.shown[number]))


if __name__ == "__main__":
    command.run(main)
