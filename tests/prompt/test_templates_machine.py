"""Templates put together piece by piece: what they render is known at each step; what is refused names its place."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from curator_llm.errors import PromptError
from curator_llm.prompt.templates import Template

ROWS = 3
COLUMNS = ("text", "a b", "größe", "1st", "名", "x%s", "other")

#: Text with whatever means something to a template, here or in another language.
_marks = st.sampled_from(["{", "}", "{{", "}}", "%", "%s", "%(text)s", "{text}", "{0}", "$", "\\", "\n", "\x00"])
_any_text = st.lists(_marks | st.text(max_size=5), max_size=4).map("".join)
_cells = st.lists(_any_text, min_size=ROWS, max_size=ROWS)
_bad_names = st.sampled_from(
    ["", " ", "0", "12", "text.upper", "text[0]", "text!r", "text:>9", " text", "text ", "a\nb", "'a'", '"a"', "a\\b"]
)


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


class Prompt(RuleBasedStateMachine):
    """A template that grows at its end, and what it has to give for each row."""

    @initialize(cells=st.fixed_dictionaries(dict.fromkeys(COLUMNS, _cells)))
    def begin(self, cells: dict[str, list[str]]) -> None:
        self.cells = cells
        self.template = ""
        self.expected = [""] * ROWS
        self.named: list[str] = []

    @rule(text=_any_text)
    def text_is_added(self, text: str) -> None:
        self.template += escaped(text)
        self.expected = [rendered + text for rendered in self.expected]

    @rule(name=st.sampled_from(COLUMNS))
    def a_column_is_added(self, name: str) -> None:
        self.template += f"{{{name}}}"
        self.named.append(name)
        self.expected = [rendered + cell for rendered, cell in zip(self.expected, self.cells[name], strict=True)]

    @rule(name=st.sampled_from(COLUMNS), cell=_any_text, row=st.integers(0, ROWS - 1))
    def a_cell_changes(self, name: str, cell: str, row: int) -> None:
        """Only its own row may change, and only where the column is named."""
        cells = {**self.cells, name: [cell if n == row else old for n, old in enumerate(self.cells[name])]}
        rendered = Template.parse(self.template).render(cells, ROWS)
        for n in range(ROWS):
            if n != row or name not in self.named:
                assert rendered[n] == self.expected[n]
            else:
                assert rendered[n].count(cell) >= self.named.count(name)

    @invariant()
    def values_and_text_stand_unchanged(self) -> None:
        template = Template.parse(self.template)
        assert template.text == self.template
        assert template.columns == tuple(dict.fromkeys(self.named))
        assert template.render(self.cells, ROWS) == self.expected

    @invariant()
    def escaping_the_whole_template_gives_it_back(self) -> None:
        template = Template.parse(escaped(self.template))
        assert (template.columns, template.render({}, ROWS)) == ((), [self.template] * ROWS)

    @rule(brace=st.sampled_from("{}"), after=st.text("ab %", max_size=5))
    def a_single_brace_is_refused_by_its_place(self, brace: str, after: str) -> None:
        place = len(self.template) + 2
        self._is_refused(f"{self.template} {brace} {after}", f"a single '{brace}' stands at character {place}.")

    @rule(name=_bad_names, after=_any_text)
    def what_is_no_column_name_is_refused_by_itself(self, name: str, after: str) -> None:
        self._is_refused(f"{self.template} {{{name}}} {escaped(after)}", f"{{{name}}} is not a column name")

    def _is_refused(self, template: str, reason: str) -> None:
        try:
            Template.parse(template)
        except PromptError as error:
            said = str(error)
        else:
            raise AssertionError(template)
        assert reason in said
        advised = said.partition("it reads:\n")[2]
        assert Template.parse(advised).render({}, 1) == [template]


TestPrompt = Prompt.TestCase
TestPrompt.settings = settings(max_examples=40, stateful_step_count=20, deadline=None, database=None)
