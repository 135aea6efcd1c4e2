import json
from pathlib import Path

import pytest

from mtmed.errors import InputError
from mtmed.studies import read_study
from mtmed.studies.study import Setting

BUNDLES = Path(__file__).parents[2] / "bundles"
# overlays, such as demo.json, lack one of the two
WHOLE = {"title", "arms"}
PUBLISHED = sorted(file for file in BUNDLES.glob("*/studies/*.json") if json.loads(file.read_text()).keys() >= WHOLE)


def test_what_is_not_stated_has_its_default(study_file):
    study = read_study([study_file()])
    assert (study.folds, study.fractions, study.seeds) == ((0, 1), (100,), (0,))
    assert list(study.steps) == ["pretrain", "train", "evaluate"]
    assert study.steps["pretrain"].config == ("pretrain.json",)
    assert study.arms["scratch"] == {"pretrain": None}
    assert study.organs is None


def test_an_overlay_reaches_inside_and_states_its_own_bundle(study_file, tmp_path):
    overlay = tmp_path / "overlay.json"
    content = {"seeds": [1, 2], "steps::train::config": ["train.json", "quick.json"], "score#organs": ["liver"]}
    overlay.write_text(json.dumps(content))
    study = read_study([study_file(), overlay])
    assert study.seeds == (1, 2)
    assert study.steps["train"].config == ("train.json", "quick.json")
    assert study.steps["train"].vary == ("fold", "fraction", "seed")
    assert study.organs == ("liver",)
    assert study.bundle == tmp_path / "studies" / "../bundle"
    overlay.write_text('{"bundle": "bundle"}')
    assert read_study([study_file(), overlay]).bundle == tmp_path / "bundle"


def test_settings_go_to_an_input_to_all_steps_or_to_one(study_file):
    study = read_study([study_file()], ["data=/a b/c=d", "learning_rate=1e-3", "train.folds=[1]", "seconds=null"])
    assert study.inputs["data"] == "/a b/c=d"
    assert study.settings == (Setting("learning_rate", 1e-3), Setting("folds", [1], "train"), Setting("seconds", None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"armss": {}}, "armss: unknown key; did you mean 'arms'?"),
        ({"steps::train::varry": []}, "steps::train::varry: unknown key; did you mean 'vary'?"),
        ({"steps::train::vary": ["folds"]}, "steps::train::vary: has 'folds'; give a list of fold, fraction, seed"),
        ({"steps::tr-ain": {}}, "steps::tr-ain: is no name"),
        ({"steps": {}}, "steps: there are none"),
        ({"arms": {}}, "arms: there are none"),
        ({"arms::mixcl": {"trian": {}}}, "arms::mixcl::trian: unknown key; did you mean 'train'?"),
        ({"arms::mixcl": []}, "arms::mixcl: is [], not a dictionary"),
        ({"score::compare": [["mixcl"]]}, "score::compare: has ['mixcl']; give pairs of different arms"),
        (
            {"score::compare": [["pretrained", "scrach"]]},
            "has 'scrach', which is no arm that is scored; did you mean 'scratch'",
        ),
        ({"score::pictured": ["mixcll"]}, "score::pictured: has 'mixcll'; give a list of arms"),
        ({"folds": []}, "folds: is []; give a list of folds from 0"),
        ({"folds": [0, -1]}, "folds: has -1"),
        ({"folds": [True]}, "folds: has True"),
        ({"folds": [1, 1]}, "folds: has 1 twice; name each once"),
        ({"fractions": [0]}, "fractions: has 0; give a list of percentages up to 100"),
        ({"fractions": [101]}, "fractions: has 101"),
        ({"seeds": [0.5]}, "seeds: has 0.5"),
        ({"score::step": "test"}, "score::step: is 'test', not a step; use one of pretrain, train, evaluate"),
        ({"score::metrics": []}, "score::metrics: is []"),
        ({"reference_arm": "scratsch"}, "reference_arm: is 'scratsch', not an arm; did you mean 'scratch'?"),
        ({"inputs::data": None}, "inputs::data: has no value; give it with --set data=VALUE"),
        ({"inputs::train": "x"}, "train: names an input and a step"),
        ({"title": ""}, "title: is ''; give a text"),
    ],
)
def test_what_cannot_be_meant_is_refused(study_file, changes, message):
    with pytest.raises(InputError) as caught:
        read_study([study_file(changes)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a dictionary"),
        ("{", "is not JSON"),
        ('{"arms": {}, "arms": {}}', "arms: the key stands twice"),
        ('{"arms": {}}', "has no 'title'"),
        ('{"steps::train::config": "a"}', "steps::train::config: lies in nothing that the study has"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, text, message):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_study([tmp_path / "study.json"])
    with pytest.raises(InputError, match="cannot be read"):
        read_study([tmp_path / "none.json"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [("epochs", "is not name=value"), ("tain.epochs=1", "there is no step 'tain'; did you mean")],
)
def test_a_setting_that_cannot_be_meant_is_refused(study_file, setting, message):
    with pytest.raises(InputError, match=message):
        read_study([study_file()], [setting])


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_no_published_study_scores_the_network_that_was_best_on_the_scored_cases(file):
    inputs = json.loads(file.read_text()).get("inputs", {})
    study = read_study([file], [f"{name}=folder" for name, value in inputs.items() if value is None])
    if study.steps[study.score_step].overrides.get("part") == "test":
        assert study.steps[study.score_step].overrides["checkpoint"] == "{train}/model.pt", "chosen on other cases"
    elif "train" in study.steps:
        assert study.steps[study.score_step].overrides["checkpoint"] == "{train}/last.pt"
    else:
        assert list(study.steps) == [study.score_step], "what is scored is what is trained, at its last validation"
