"""The job of `benchmarks.start` in plain PyTorch: `start_pytorch.py {train,predict} FOLDER [FILE]`."""

import sys
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


class Classifier(nn.Module):
    """An LSTM that reads an image row by row, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 128, batch_first=True)
        self.linear = nn.Linear(128, 10)

    def forward(self, x):
        """Computes the logits [B, 10] of images [B, 8, 8]."""
        ys, _ = self.lstm(x)
        return self.linear(ys[:, -1])


def train(folder):
    """Makes one step of SGD on the digits, tests, and saves the weights."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch.utils.data import DataLoader, TensorDataset  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    pixels, classes = map(np.asarray, load_digits(return_X_y=True))
    images, labels = torch.tensor(pixels.reshape(-1, 8, 8) / 16, dtype=torch.float32), torch.tensor(classes)
    training, test = train_test_split(np.arange(len(labels)), test_size=599, stratify=labels, random_state=0)
    validation, training = training[:99], training[99:]
    loader = DataLoader(TensorDataset(images[training], labels[training]), batch_size=128, shuffle=True)

    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9, nesterov=True)
    loss_function = nn.CrossEntropyLoss()
    for step, (x, y) in enumerate(loader, 1):
        logits = model(x)
        loss = loss_function(logits, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        accuracy = (logits.argmax(1) == y).float().mean()
        print(f"Step {step}, Minibatch Loss= {loss.item():.4f}, Training Accuracy= {accuracy:.3f}", flush=True)
        if step == 1:
            break

    model.eval()
    with torch.no_grad():
        for name, rows in (("Validation", validation), ("Testing", test)):
            accuracy = (model(images[rows]).argmax(1) == labels[rows]).float().mean()
            print(f"{name} Accuracy: {accuracy:.4f}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), Path(folder) / "model.pt")


def predict(folder, file):
    """Prints the probabilities of the classes of a picture."""
    from PIL import Image

    model = Classifier()
    model.load_state_dict(torch.load(Path(folder) / "model.pt"))
    model.eval()
    image = np.asarray(Image.open(file).convert("L").resize((8, 8)), np.float32) / 255
    with torch.no_grad():
        probabilities = torch.softmax(model(torch.tensor(image)[None]), 1)[0]
    print(file, int(probabilities.argmax()), *(f"{p:.6f}" for p in probabilities), sep=",")


if __name__ == "__main__":
    {"train": train, "predict": predict}[sys.argv[1]](*sys.argv[2:])
