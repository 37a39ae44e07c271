#!/usr/bin/env bash
# A learned token (textual inversion) of several vectors loses all but the first in diffusers where
# its name has a capital letter, as those of popular files do (they are named after the file). No
# warning: TextualInversionLoaderMixin.maybe_convert_prompt looks for the name among the tokens of
# the prompt, which CLIP's tokenizer of transformers 5 gives in small letters ("myduck"), so it does
# not find "MyDuck" and leaves the prompt as it is. The tokenizer itself finds the word in any case.
# Also, a token of letters is found inside longer words: "art" in "start", which loses its meaning.
# (diffusers 0.42.1, transformers 5.23.0, torch 2.13.0 for CPUs; run on 2026-11-28, Python 3.11)
#
# Output seen (ids that the text encoder gets; 100, 101 and 102 are the three vectors):
#   myduck  'a myduck' becomes 'a myduck myduck_1 myduck_2': 100 101 102
#   MyDuck  'a MyDuck' becomes 'a MyDuck': 100
#   art     'start' becomes 'start art_1 art_2': 100 101 102 inside
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/pip install -q torch==2.13.0 --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
env/bin/pip install -q diffusers==0.42.1 transformers==5.23.0
env/bin/python - 2>/dev/null <<'PY' | tee seen
import json

import torch
from diffusers.loaders import TextualInversionLoaderMixin
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]
WORDS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
json.dump({word: index for index, word in enumerate(WORDS)}, open("vocab.json", "w"))
open("merges.txt", "w").write("#version: 0.2\n")


class Pipe(TextualInversionLoaderMixin):
    def __init__(self):
        self.tokenizer = CLIPTokenizer("vocab.json", "merges.txt")
        self.text_encoder = CLIPTextModel(CLIPTextConfig(
            vocab_size=len(WORDS), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, eos_token_id=len(WORDS) - 1, bos_token_id=len(WORDS) - 2))
        self.components, self.hf_device_map = {}, None


for name, prompt in (("myduck", "a myduck"), ("MyDuck", "a MyDuck"), ("art", "start")):
    pipe = Pipe()
    pipe.load_textual_inversion({name: torch.randn(3, 32)}, token=name)
    converted = pipe.maybe_convert_prompt(prompt, pipe.tokenizer)
    found = [index - len(WORDS) + 100 for index in pipe.tokenizer(converted).input_ids
             if index >= len(WORDS)]
    inside = " inside" if name == "art" else ""
    print(f"{name:<7} {prompt!r} becomes {converted!r}: {' '.join(map(str, found))}{inside}")
PY
diff seen - <<'EOF'
myduck  'a myduck' becomes 'a myduck myduck_1 myduck_2': 100 101 102
MyDuck  'a MyDuck' becomes 'a MyDuck': 100
art     'start' becomes 'start art_1 art_2': 100 101 102 inside
EOF
