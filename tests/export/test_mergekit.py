"""What is written for mergekit: YAML that says which layers stay, whatever the source is called."""

from __future__ import annotations

import pytest
import yaml

from explorer.export.mergekit import make_yaml
from explorer.export.tensor_layout import Layout
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel


@pytest.mark.parametrize("source", ["org/model", "/a: b/#c 'd' \"e\"", "/é\n- x", "no", "1.0", "/" + "long " * 60])
def test_the_yaml_names_the_layers_that_stay(llama: LoadedModel, source: str) -> None:
    layout = Layout(llama.architecture, Mask.parse("1,a2,m3"), 4)
    written = make_yaml(llama, layout, source, llama.checkpoint.config)
    attention, mlp = (
        {"parameters": {"scale": [{"filter": name, "value": 0.0}, {"value": 1.0}]}}
        for name in ("self_attn.o_proj", "mlp.down_proj")
    )
    assert yaml.safe_load(written) == {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": source, "layer_range": [first, last]} | parameters]}
            for first, last, parameters in (
                (0, 1, {}),
                (2, 3, attention),
                (3, 4, mlp),
            )
        ],
    }
    assert "&" not in written
