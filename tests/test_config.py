"""A campaign file: what it may say, and how it is told that it is wrong."""

import pytest

from matsearch.config import apply_override, differences, load_config, resolve_config
from matsearch.errors import ConfigError


def write(tmp_path, text, name="c.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_whole_sample_of_the_readme_resolves(tmp_path):
    config = load_config(write(tmp_path, """
name = "oxides"
task = "generate"
preset = "matsearch"
seed = 7
[space]
elements = ["Li", "Mg", "Ti", "O"]
max_atoms = 20
[llm]
backend = "embedded"
options = { temperature = 0.9 }
[search]
generations = 5
population = 50
children_per_prompt = 2
[potential]
name = "chgnet-0.3.0"
device = "auto"
[relax]
force_tol = 0.05
max_steps = 300
[[objectives]]
name = "energy_above_hull"
direction = "min"
[[objectives]]
name = "bulk_modulus"
direction = "max"
[budget]
relaxations = 500
"""))  # fmt: skip
    assert config.llm[0].options == {"temperature": 0.9}
    assert [one.name for one in config.objectives] == ["energy_above_hull", "bulk_modulus"]
    assert resolve_config(config.plain(), "itself") == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("generatoins = 3", ["'generatoins'", "known keys", "task"]),
        ("[search]\ngeneratoins = 3", ["'generatoins'", "[search]", "did you mean 'generations'", "population"]),
        ("[[objectives]]\nname = 'density'\nweigth = 2", ["'weigth'", "[objectives]", "weight"]),
        ("[llm]\nbackand = 'x'", ["'backand'", "[llm]", "backend"]),
        ("[relax]\nforce_tol = -1", ["relax.force_tol", "greater than 0", "-1"]),
        ("[relax]\nstress_tol = 0", ["relax.stress_tol", "greater than 0", "0"]),
        ("[relax]\noptimizer = 'bfgs'", ["relax.optimizer", "'fire'", "'lbfgs'", "'bfgs'"]),
        ("[relax]\nfix_symmetry = 'perhaps'", ["relax.fix_symmetry", "'perhaps'"]),
        ("[relax]\npressure = 3", ["'pressure'", "[relax]", "did you mean 'pressure_gpa'", "force_tol"]),
        ("[relax]\npressure_gpa = nan", ["relax.pressure_gpa", "finite"]),
        ("[space]\nelements = ['Xx']", ["space.elements", "'Xx'"]),
        ("[space]\ncomposition = 'Foo7'", ["space.composition", "formula"]),
        ("[space]\nchemical_system = 'Li-Xx'", ["space.chemical_system", "'Xx'"]),
        ("[space]\nchemical_system = 'Li-O'\nelements = ['O']", ["chemical_system", "not both"]),
        ("[space]\nstoichiometry = 'CaTiO3'", ["space.stoichiometry", "ABX3", "'CaTiO3'"]),
        ("[space]\nstoichiometry = 'ABX3'\nelements = ['Ca', 'O']", ["ABX3", "3 elements", "2 are given"]),
        ("[space]\nstoichiometry = 'ABX3'\nmax_atoms = 4", ["ABX3", "max_atoms = 4"]),
        ("[space]\nstoichiometry = 'AB'\ncomposition = 'NaCl'", ["composition", "stoichiometry"]),
        ("[space]\nsymmetry = ['cubical']", ["space.symmetry", "'cubical'", "hexagonal"]),
        ("[space]\nsymmetry = [231]", ["space.symmetry", "231"]),
        ("[space]\nmin_atoms = 50", ["min_atoms = 50", "max_atoms = 40"]),
        ("preset = 'matlmsearch'", ["unknown preset", "'matlmsearch'", "matllmsearch-v1"]),
        ("task = 'predict'", ["predict", "composition"]),
        ("task = 'guess'", ["task", "generate", "'guess'"]),
        ("name = '../x'", ["name", "'../x'"]),
        ("search = 3", ["search", "3"]),
        ("[search]\noperators = { teleport = 1 }", ["search.operators", "crossover"]),
        ("[search]\noperators = { predict = 1 }", ["predict", "composition"]),
        ("[search]\noperators = { mutate = 0 }", ["search.operators", "weight above 0"]),
        ("[budget]\nusd = 1", ["usd", "prices"]),
        ("objectives = []", ["objectives", "at least 1"]),
        (
            "[[objectives]]\nname = 'density'\nconstraint = '<= 3'\nreference = 5",
            ["density", "reference needs a direction or a target"],
        ),
        ("[[objectives]]\nname = 'density'\nconstraint = '< 3'", ['write "<= 0.1" or ">= 200"', "'< 3'"]),
        ("[[objectives]]\nname = 'density'\nconstraint = '<=1e400'", ["constraint", "finite", "'<=1e400'"]),
        ("seed = {}", ["seed", "integer", "got a table"]),
        ("seed = = 3", ["no valid TOML"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_word_at_fault(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    assert "c.toml" in message
    for word in words:
        assert word in message


def test_a_problem_between_the_keys_of_a_table_does_not_print_the_table(tmp_path):
    with pytest.raises(ConfigError, match="islands") as caught:
        load_config(write(tmp_path, "[search]\nislands = 3\npopulation = 2"))
    assert "{" not in str(caught.value) and "got" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no campaign file .*nothere\.toml"):
        load_config(tmp_path / "nothere.toml")


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(path)


def test_a_preset_lies_under_the_file(tmp_path):
    config = load_config(write(tmp_path, "preset = 'matllmsearch-v1'\n[search]\npopulation = 8"))
    assert config.search.population == 8
    assert config.search.children_per_prompt == 5
    assert config.search.selection == "weighted"
    assert config.search.operators == {"crossover": 1.0}
    assert config.llm[0].options["temperature"] == 0.95
    assert config.search.proposals_per_generation == 4


def test_overrides_are_toml_or_bare_words(tmp_path):
    overrides = ["search.generations=2", "space.elements=['Na', 'Cl']", "llm.backend=scripted", "budget.hours = 5"]
    config = load_config(write(tmp_path, "[llm]\nmodel = 'm'"), overrides)
    assert config.search.generations == 2
    assert config.space.elements == ["Cl", "Na"]
    assert (config.llm[0].backend, config.llm[0].model) == ("scripted", "m")
    assert config.budget.hours == 5


@pytest.mark.parametrize("override", ["search.generations", "=3", "search..x=1", "space.elements=['Na"])
def test_a_malformed_override_says_what_was_expected(override):
    with pytest.raises(ConfigError, match="--set"):
        apply_override({}, override)


def test_differences_name_each_leaf():
    old = {"a": {"b": 1, "c": [1, 2]}, "l": [{"x": 1}]}
    new = {"a": {"b": 2, "c": [1]}, "l": [{"x": 3}]}
    assert differences(old, new) == ["a.b: 1 -> 2", "a.c: [1, 2] -> [1]", "l.0.x: 1 -> 3"]


def test_paths_in_options_start_from_the_campaign_file(tmp_path):
    write(tmp_path, '"hello"', "replies.jsonl")
    config = load_config(write(tmp_path, "[llm]\nbackend = 'scripted'\noptions = { replies = 'replies.jsonl' }"))
    assert config.llm[0].options["replies"] == str(tmp_path / "replies.jsonl")


@pytest.mark.parametrize(
    "override",
    [
        "task=5",
        "search=3",
        "llm.weight=inf",
        "relax.force_tol=inf",
        "search.energy_floor=nan",
        "search.operators={crossover=inf}",
        "llm=3",
        "llm.backend='json:dumps'",
        "llm.backend='json:JSONDecoder'",
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line(tmp_path, override):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, ""), [override])
    assert "\n" not in str(caught.value)


def test_a_composition_outside_the_elements_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="composition needs F, K, Zn"):
        load_config(write(tmp_path, "[space]\nelements = ['O']\ncomposition = 'KZnF3'"))


def test_twins_stand_beside_the_embedded_model_and_beside_others_only_if_asked_for(tmp_path):
    objectives = '[[objectives]]\nname = "density"\n'
    path = tmp_path / "campaign.toml"

    def backends(text):
        path.write_text(f'name = "x"\n{text}\n{objectives}')
        config = load_config(path)
        return [llm.backend for llm in config.llm], config.search.twins

    with_model, twins = backends("")
    assert with_model == ["embedded", "operators"] and twins["analogue"] > 0
    assert backends('[llm]\nbackend = "openai"\nmodel = "m"') == (["openai"], {})
    named = backends('[llm]\nbackend = "openai"\nmodel = "m"\n[search]\ntwins = { substitute = 1.0 }')
    assert named == (["openai", "operators"], {"substitute": 1.0})
    assert backends("[search]\ntwins = {}") == (["embedded"], {})
    assert backends('task = "predict"\n[space]\ncomposition = "KZnF3"')[1] == {"predict": 1.0}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ('composition = "A0B1"', "formula of known elements"),  # pymatgen reads boron
        ('composition = "Na0Cl"', "formula of known elements"),
        ('composition = "K2.5F"', "whole numbers of atoms"),
        ('composition = "NaCl"\nmax_atoms = 1', "have 2, 4, 6, 8 atoms, none of which lies from min_atoms = 1"),
        ('composition = "NaCl"\nmin_atoms = 3\nmax_atoms = 3', "to max_atoms = 3"),
    ],
)
def test_a_composition_that_no_cell_can_hold_is_refused(space, words, tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(f'task = "predict"\n[space]\n{space}\n')
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_operators_beside_an_llm_predict_only_what_is_named(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text("[search]\ntwins = { predict = 1.0 }\n")
    with pytest.raises(ConfigError, match='operator "predict" needs'):
        load_config(path)
