"""Which cells of a chapter print what was trained in it: read off the source, nothing is executed.

    python tools/trained.py             every such cell, with its tags
    python tools/trained.py 23 28       those of two chapters

Processors differ in the last digit of a sum, and steps of an optimiser make of that a difference that can be seen: no
figure that comes after them is the same everywhere. A cell that prints one carries the tag `trained` (its numbers are
compared within a wide tolerance, see `same_number` in chapters.py) or `varies` (nothing of it is compared);
tests/test_chapters.py holds that.

What counts: `….step()`, and every function and class that takes such a step or calls one that does, in the chapter or
in the package. A statement that does it hands it on to every name that it assigns or changes, to the models it is
given (the first argument), to the weights an optimiser is made for; and so does a statement that reads such a name.
A cell that prints nothing but what cannot differ (a message, a number of steps) says so with the tag `exact`.
"""

import ast
import functools
import re
import sys

import chapters

PACKAGE = chapters.ROOT / "amt_nb"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
INNER = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)  # what has names of its own
OPTIMISERS = re.compile(r"(torch\.)?optim\.[A-Z]")


def root(node):
    """Name at the root of `name[...].attribute(...)`, or None."""
    while isinstance(node, (ast.Subscript, ast.Attribute, ast.Call, ast.Starred)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def names(tree, context):
    """Names that a piece of a program reads (ast.Load) or assigns (ast.Store), without those that live in it only."""
    found = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
    for n in ast.walk(tree):
        if isinstance(n, INNER):
            found -= {x.id for g in n.generators for x in ast.walk(g.target) if isinstance(x, ast.Name)}
        elif isinstance(n, (ast.Lambda, *FUNCTIONS)):
            found -= {x.arg for x in ast.walk(n.args) if isinstance(x, ast.arg)}
            if not isinstance(n, ast.Lambda):
                found -= {x.id for x in ast.walk(n) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
    return found


def steps(tree):
    """True when somewhere in it an optimiser takes a step: `….step()` or, with a closure, `….step(loss)`; `ax.step(x, y)` draws."""
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return any(n.func.attr == "step" and len(n.args) < 2 and not n.keywords for n in calls)


def calls_of(tree, known):
    """Calls in it of names in `known`, also by way of an item or a method: `fit(…)`, `ARMS[arm](…)`, `DeepCTW().align(…)`."""
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and root(n.func) in known]


def says(tree):
    """True when somewhere in it something is printed."""
    return bool(calls_of(tree, {"print", "display"}))


@functools.cache
def doers(module, does):
    """Names of amt_nb.`module` that do what `does` (`steps` or `says`) finds in a piece of a program."""
    path = PACKAGE / (module.replace(".", "/") + ".py")
    if not path.exists():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level):
        package = ["amt_nb", *module.split(".")[: -node.level]]
        node.module, node.level = ".".join([*package, node.module] if node.module else package), 0
    return frozenset(learn(tree.body, frozenset(), does))


def imported(statement, does):
    """Names that an import, wherever it stands in `statement`, brings in from the package and that do it."""
    found = set()
    for node in (n for n in ast.walk(statement) if isinstance(n, ast.ImportFrom) and n.module):
        there = doers(node.module.removeprefix("amt_nb."), does) if node.module.startswith("amt_nb.") else ()
        found |= {alias.asname or alias.name for alias in node.names if alias.name in there}
    return found


def learn(body, known, does):
    """`known` with the names of functions, classes and tables of them that do it, as the statements of `body` import and define them."""
    for statement in body:
        here = known | imported(statement, does)
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            known = (
                known | {statement.name} if does(statement) or calls_of(statement, here) else known - {statement.name}
            )
        elif isinstance(statement, ast.Assign):
            table = names(statement.value, ast.Load) & known and not calls_of(statement.value, known)
            known = known | names(statement, ast.Store) if table else known - names(statement, ast.Store)
        else:
            known = here
    return known


def changed(statement):
    """Names that a simple statement assigns, and those of which it calls a method or sets a part."""
    parts = [
        n for n in ast.walk(statement) if isinstance(n, (ast.Subscript, ast.Attribute)) and isinstance(n.ctx, ast.Store)
    ]
    if (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.value.func, ast.Attribute)
    ):
        parts.append(statement.value.func)
    return names(statement, ast.Store) | {root(n) for n in parts} - {None}


def given(statement, known):
    """Names of the models that a statement trains: read in the first argument of a trainer or of an optimiser that it makes."""
    optimisers = [n for n in ast.walk(statement) if isinstance(n, ast.Call) and OPTIMISERS.match(ast.unparse(n.func))]
    return {name for n in calls_of(statement, known) + optimisers for a in n.args[:1] for name in names(a, ast.Load)}


class Reader:
    """Goes through the cells of a chapter as they are executed, and knows at each place what hangs on something trained.

    known: names that train. loud: that print. tainted: names of what was trained, or made of it. tools: what was imported or defined."""

    def __init__(self):
        self.known, self.loud, self.tainted, self.tools = frozenset(), frozenset(), frozenset(), frozenset()

    def hangs(self, node):
        """True when a statement or an expression trains, or reads what was trained."""
        return bool(steps(node) or calls_of(node, self.known) or names(node, ast.Load) & self.tainted)

    def read(self, statement, last=False):
        """Reads one statement; True when it prints something that hangs on something trained. last: the last one of a cell."""
        self.known, self.loud = learn([statement], self.known, steps), learn([statement], self.loud, says)
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.tools |= {(a.asname or a.name).split(".")[0] for a in statement.names}
            return False
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            self.tools |= {statement.name}
            self.tainted = (
                self.tainted | {statement.name}
                if names(statement, ast.Load) & self.tainted
                else self.tainted - {statement.name}
            )
            return False
        inner = [n for n in ast.iter_child_nodes(statement) if isinstance(n, (ast.stmt, ast.ExceptHandler))]
        if inner:
            head = [n for n in ast.iter_child_nodes(statement) if n not in inner]
            if isinstance(statement, (ast.For, ast.While, ast.With)):
                targets = {x for n in head for x in names(n, ast.Store)}
                self.tainted = (
                    self.tainted | targets - self.tools if any(map(self.hangs, head)) else self.tainted - targets
                )
            again = 2 if isinstance(statement, (ast.For, ast.While)) else 1  # what a round leaves, the next one finds
            inner = [s for n in inner for s in (n.body if isinstance(n, ast.ExceptHandler) else [n])]
            return any([self.read(s) for _ in range(again) for s in inner])
        hangs = self.hangs(statement)
        if hangs:
            self.tainted |= changed(statement) - self.tools
        elif isinstance(statement, ast.Assign):
            self.tainted -= {t.id for t in statement.targets if isinstance(t, ast.Name)}
        self.tainted |= given(statement, self.known) - self.tools
        return hangs and bool(
            says(statement) or calls_of(statement, self.loud) or last and isinstance(statement, ast.Expr)
        )


def shows_trained(nb):
    """Code cells of notebook `nb` whose text has a number in it and hangs on something trained in the notebook."""
    from IPython.core.inputtransformer2 import TransformerManager

    reader, found = Reader(), []
    for cell in (c for c in nb.cells if c.cell_type == "code"):
        body = ast.parse(TransformerManager().transform_cell(cell.source)).body
        says = any([reader.read(s, s is body[-1] and not cell.source.rstrip().endswith(";")) for s in body])
        if says and re.search(r"\d", re.sub(r"<Figure size [^>]*>", "", chapters.shown(cell)[0])):
            found.append(cell)
    return found


if __name__ == "__main__":
    import nbformat

    for path in chapters.chapters():
        if not sys.argv[1:] or path.stem.partition("_")[0] in sys.argv[1:]:
            for cell in shows_trained(nbformat.read(path, as_version=4)):
                print(
                    path.stem,
                    cell.id,
                    cell.metadata.get("tags", []),
                    cell.source.strip().splitlines()[0][:70],
                    "->",
                    " ".join(chapters.shown(cell)[0].split())[:100],
                )
