"""Makes the two benchmark models that need PyTorch: run by ``real_models.py`` in an environment of its own.

    python torch_models.py minilm MINILM_PACKAGE RATINGS_FOLDER OUTPUT_FOLDER
    python torch_models.py digits OUTPUT_FOLDER

Each leaves ``model.onnx``, ``calibration.npz`` and ``evaluation.npz`` in the output folder. Calibration data
come from what the model was trained on, evaluation data from what it has not seen.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

warnings.simplefilter("ignore")

TOKENS = 48
CALIBRATION_SENTENCES = 1024
TRAINING_SENTENCES = 6000
EVALUATION_SENTENCES = 3000
CLEAR_RATING = 1.0

WIDTH = 56
EPOCHS = 12
CALIBRATION_IMAGES = 448


class SentimentOfSentences(nn.Module):
    """all-MiniLM-L6-v2 with the mean pooling it was trained with, and a linear head on the embedding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, 2)

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        present = attention_mask[..., None].to(hidden.dtype)
        mean = (hidden * present).sum(1) / present.sum(1).clamp(min=1e-9)
        return F.normalize(mean, dim=1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(input_ids, attention_mask))


def minilm(package: Path, ratings: Path, output: Path) -> None:
    """A linear head is fitted on the embeddings of rated sentences; the encoder stays as it is."""
    from sklearn.linear_model import LogisticRegression
    from tokenizers import Tokenizer
    from transformers import AutoModel

    model = SentimentOfSentences(AutoModel.from_pretrained(package, attn_implementation="eager")).eval()
    sentences, labels = rated_sentences(ratings)
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    count = EVALUATION_SENTENCES + TRAINING_SENTENCES
    # Sentences that are the same to the model, once truncated and without case, count once.
    encoded = {
        tuple(e.ids): (e, label) for e, label in zip(tokenizer.encode_batch(sentences), labels, strict=True)
    }
    chosen = list(encoded.values())[:count]
    labels = np.array([label for _, label in chosen], np.int64)
    ids, mask = (np.array([getattr(e, k) for e, _ in chosen], np.int64) for k in ("ids", "attention_mask"))
    train = slice(EVALUATION_SENTENCES, None)
    with torch.no_grad():
        rows = range(EVALUATION_SENTENCES, len(ids), 64)
        parts = [model.embed(*(torch.tensor(a[k : k + 64]) for a in (ids, mask))) for k in rows]
        embeddings = torch.cat(parts).numpy()
        fitted = LogisticRegression(C=10.0, max_iter=1000).fit(embeddings, labels[train])
        # Softmax of (0, z) is the logistic function of z.
        model.head.weight.copy_(torch.tensor(np.vstack([np.zeros_like(fitted.coef_), fitted.coef_])))
        model.head.bias.copy_(torch.tensor([0.0, float(fitted.intercept_[0])]))
    export(model, tuple(torch.tensor(a[:2]) for a in (ids, mask)), ["input_ids", "attention_mask"], output)
    for name, some in (
        ("evaluation", slice(EVALUATION_SENTENCES)),
        ("calibration", slice(EVALUATION_SENTENCES, EVALUATION_SENTENCES + CALIBRATION_SENTENCES)),
    ):
        np.savez(output / f"{name}.npz", input_ids=ids[some], attention_mask=mask[some], labels=labels[some])


def rated_sentences(folder: Path) -> tuple[list[str], np.ndarray]:
    """Sentences that people rated clearly, shuffled, and whether they are positive (1) or negative (0)."""
    seen: dict[str, float] = {}
    for path in sorted(folder.glob("*_GroundTruth.txt")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            _, rating, sentence = line.split("\t", 2)
            seen.setdefault(sentence.strip(), float(rating))
    clear = [(s, r) for s, r in sorted(seen.items()) if abs(r) >= CLEAR_RATING]
    order = np.random.default_rng(0).permutation(len(clear))
    return [clear[k][0] for k in order], np.array([clear[k][1] > 0 for k in order], np.int64)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        changes = stride != 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if changes
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def residual_network(width: int) -> nn.Module:
    widths = [(1, 1, 1), (1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1)]
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
        *(Block(i * width, o * width, stride) for i, o, stride in widths),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def digits(output: Path) -> None:
    """A residual network trained on half of scikit-learn's handwritten digits, at 32 x 32 pixels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    found = load_digits()
    images = torch.tensor(found.images[:, None] / 16.0, dtype=torch.float32)
    images = (F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False) - 0.3) / 0.36
    labels = torch.tensor(found.target)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.5, random_state=2026, stratify=found.target
    )
    model = residual_network(WIDTH)
    batch, per_epoch = 64, len(train) // 64
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * per_epoch)
    for epoch in range(EPOCHS):
        model.train()
        order = rng.permutation(train)
        for k in range(per_epoch):
            some = order[k * batch : (k + 1) * batch]
            shifted = torch.roll(images[some], tuple(rng.integers(-2, 3, 2).tolist()), (2, 3))
            loss = F.cross_entropy(model(shifted), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.4f}", flush=True)
    export(model.eval(), (images[:1],), ["image"], output)
    for name, some in (("calibration", train[:CALIBRATION_IMAGES]), ("evaluation", test)):
        np.savez(output / f"{name}.npz", image=images[some].numpy(), labels=labels[some].numpy())


def export(model: nn.Module, example: tuple[torch.Tensor, ...], names: list[str], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        example,
        str(output / "model.onnx"),
        dynamo=False,
        opset_version=17,
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch"} for name in (*names, "logits")},
    )


if __name__ == "__main__":
    kind, *paths = sys.argv[1:]
    {"minilm": minilm, "digits": digits}[kind](*map(Path, paths))
