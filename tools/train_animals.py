#!/usr/bin/python3
"""Train the default model `animals` and write it as ONNX.

Needs Debian's python3-torch, python3-onnx and python3-pil; run it with /usr/bin/python3.

  train_animals.py train  DATA OUT.pt [--minutes 60]   train on DATA/train, measure on DATA/val after each epoch
  train_animals.py train  DATA OUT.pt --resume OLD.pt --rate 0.02 [--minutes 20]   a second, gentler cosine from OLD, without CutMix
  train_animals.py export DATA A.pt[,B.pt…] MODEL_DIR  write model.onnx (float16 weights) from the checkpoints' average,
                                                       and accuracy.tsv by class

DATA is the unpacked animals64.tar: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, 64x64 pixels, and labels.tsv.

The recipe, in the order in which it matters:
- bfloat16 autocast and channels_last: many times faster than float32 in NCHW on a processor with bfloat16 units.
- Random resized crops (35 to 100 % of the area), flips, small rotations, colour jitter, CutMix on half the batches:
  500 photos a class are few, and a network without them learns the photos by heart.
- SGD with Nesterov momentum, one warm-up and one cosine, label smoothing 0.1, no weight decay on norms and biases.
- Small pictures first (48, then 64 pixels): the early epochs cost half as much and teach as well.
- The exported weights are a running average over the last epochs, averaged once more over two such runs.
- The exported network looks at the photo and at its mirror image, and takes the mean.
"""
import argparse, glob, math, os, sys, time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTHS, BLOCKS = (32, 64, 128, 192), (2, 2, 2, 2)


class Block(nn.Module):
    """A basic residual block; the shortcut is pooled before its 1x1 convolution, so that no pixel is dropped."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            pool = [nn.AvgPool2d(2, 2)] if stride == 2 else []
            self.shortcut = nn.Sequential(*pool, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class AnimalNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        width = WIDTHS[0]
        layers = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
        for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS)):
            for block in range(blocks):
                layers.append(Block(inputs, width, 2 if stage and not block else 1))
                inputs = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.classifier(self.dropout(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1)))


class Mirrored(nn.Module):
    """The mean of what the network says of the photo and of its mirror image."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits = self.network(torch.cat([x, x.flip(3)]))
        return logits.view(2, -1, logits.shape[1]).mean(0)


def average_checkpoints(paths):
    states = [torch.load(path) for path in paths]
    return {name: sum(state[name] for state in states) / len(states) if value.is_floating_point() else value
            for name, value in states[0].items()}


def load_photos(folder, wnids):
    """-> uint8 [n, 3, 64, 64], int64 [n]"""
    from PIL import Image
    photos, classes = [], []
    for index, wnid in enumerate(wnids):
        for path in sorted(glob.glob(os.path.join(folder, wnid, "*.JPEG"))):
            photos.append(np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1))
            classes.append(index)
    return torch.from_numpy(np.stack(photos)), torch.tensor(classes)


def normalise(photos):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))
    return (photos.float() - mean) / std


def augment(photos, side):
    """uint8 [n, 3, 64, 64] -> float32 [n, 3, side, side], normalised"""
    n = len(photos)
    area = torch.empty(n).uniform_(0.35, 1)
    ratio = torch.exp(torch.empty(n).uniform_(math.log(3 / 4), math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    shift_x, shift_y = ((torch.rand(n) * 2 - 1) * (1 - s) for s in (width, height))
    angle = torch.empty(n).uniform_(-0.17, 0.17) * (torch.rand(n) < 0.5)
    flip = (torch.rand(n) < 0.5).float() * 2 - 1
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack([torch.stack([width * cos * flip, -height * sin, shift_x], 1),
                         torch.stack([width * sin * flip, height * cos, shift_y], 1)], 1)
    grid = F.affine_grid(theta, (n, 3, side, side), align_corners=False)
    x = F.grid_sample(photos.float(), grid, padding_mode="reflection", align_corners=False)
    brightness, contrast, saturation = (1 + (torch.rand(n, 1, 1, 1) * 2 - 1) * 0.3 for _ in range(3))
    grey = x.mean(1, keepdim=True)
    saturation = torch.where(torch.rand(n, 1, 1, 1) < 0.05, torch.zeros_like(saturation), saturation)
    x = grey + (x - grey) * saturation
    level = x.mean((1, 2, 3), keepdim=True)
    return normalise(((x - level) * contrast + level * brightness).clamp_(0, 255))


def cutmix(x):
    """Paste a rectangle of each photo's neighbour; -> photos, the neighbour's place, share that is left of the first."""
    side, keep = x.shape[-1], float(np.random.beta(1, 1))
    cut = int(side * math.sqrt(1 - keep))
    cy, cx = np.random.randint(side), np.random.randint(side)
    y0, y1, x0, x1 = max(cy - cut // 2, 0), min(cy + cut // 2, side), max(cx - cut // 2, 0), min(cx + cut // 2, side)
    other = torch.randperm(len(x))
    x[:, :, y0:y1, x0:x1] = x[other, :, y0:y1, x0:x1]
    return x, other, 1 - (y1 - y0) * (x1 - x0) / side ** 2


def predict(model, photos):
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return torch.cat([model(normalise(p).contiguous(memory_format=torch.channels_last)).float()
                          for p in photos.split(256)])


def accuracy(logits, classes):
    top = logits.topk(5, 1).indices == classes[:, None]
    return top[:, 0].float().mean().item(), top.any(1).float().mean().item()


def train(args, wnids):
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(1)
    np.random.seed(1)
    photos, classes = load_photos(os.path.join(args.data, "train"), wnids)
    val_photos, val_classes = load_photos(os.path.join(args.data, "val"), wnids)
    model = AnimalNet(len(wnids)).to(memory_format=torch.channels_last)
    if args.resume:
        model.load_state_dict(torch.load(args.resume))
    average = AnimalNet(len(wnids)).to(memory_format=torch.channels_last)
    average.load_state_dict(model.state_dict())
    print(f"{len(photos)} photos, {sum(p.numel() for p in model.parameters())} parameters", flush=True)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD([{"params": decay, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0}],
                                lr=0.1, momentum=0.9, nesterov=True)
    # Time spent, not epochs counted, drives the schedule: a slower machine trains less, and still ends its cosine.
    began, budget, epoch, step = time.time(), args.minutes * 60, 0, 0
    while (progress := (time.time() - began) / budget) < 1:
        side = 48 if progress < 0.5 and not args.resume else 64
        seen, total, order = 0, 0.0, torch.randperm(len(photos))
        model.train()
        for batch in order.split(128):
            progress = min((time.time() - began) / budget, 1)
            rate = args.rate * (min(progress / 0.04, 1) if progress < 0.04 else 0.5 * (1 + math.cos(math.pi * progress)))
            for group in optimizer.param_groups:
                group["lr"] = max(rate, 1e-4)
            x, y = augment(photos[batch], side), classes[batch]
            other, keep = None, 1.0
            if np.random.rand() < 0.5 and progress < 0.92 and not args.resume:
                x, other, keep = cutmix(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), y, label_smoothing=0.1)
            if other is not None:
                loss = keep * loss + (1 - keep) * F.cross_entropy(logits.float(), y[other], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            weight = min(0.998, step / (step + 200))
            with torch.no_grad():
                for a, b in zip(average.state_dict().values(), model.state_dict().values()):
                    a.lerp_(b, 1 - weight) if a.is_floating_point() else a.copy_(b)
            seen, total = seen + len(batch), total + loss.item() * len(batch)
        epoch += 1
        top1, top5 = accuracy(predict(average, val_photos), val_classes)
        print(f"epoch {epoch}  side {side}  {time.time() - began:.0f} s  loss {total / seen:.3f}  "
              f"val top-1 {top1:.4f}  top-5 {top5:.4f}", flush=True)
        torch.save(average.state_dict(), args.checkpoint)


def fold_norm(conv, norm):
    """Batch norm into the convolution before it, so that float16 rounds the weights that are really used."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    folded.weight.data = conv.weight * scale.view(-1, 1, 1, 1)
    folded.bias.data = norm.bias - norm.running_mean * scale
    return folded


def fold(model):
    model.features[0], model.features[1] = fold_norm(model.features[0], model.features[1]), nn.Identity()
    for block in model.features:
        if isinstance(block, Block):
            block.conv1, block.norm1 = fold_norm(block.conv1, block.norm1), nn.Identity()
            block.conv2, block.norm2 = fold_norm(block.conv2, block.norm2), nn.Identity()
            if isinstance(block.shortcut, nn.Sequential):
                parts = list(block.shortcut)
                block.shortcut = nn.Sequential(*parts[:-2], fold_norm(parts[-2], parts[-1]))
    return model


def halve_weights(path):
    """Store every weight as float16 with a Cast to float32 before its use: half the file, the same operators."""
    import onnx
    from onnx import helper, numpy_helper, TensorProto
    model = onnx.load(path)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 1024:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], name=name + "_cast", to=TensorProto.FLOAT))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    model.producer_name = "guichet train_animals.py"
    onnx.checker.check_model(model)
    onnx.save(model, path)


def export(args, wnids):
    model = AnimalNet(len(wnids))
    model.load_state_dict(average_checkpoints(args.checkpoint.split(",")))
    model = Mirrored(fold(model.eval())).eval()
    os.makedirs(args.model, exist_ok=True)
    path = os.path.join(args.model, "model.onnx")
    torch.onnx.export(model, torch.zeros(1, 3, 64, 64), path, opset_version=13, input_names=["pixel_values"],
                      output_names=["logits"], dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}})
    halve_weights(path)
    photos, classes = load_photos(os.path.join(args.data, "val"), wnids)
    with torch.no_grad():
        logits = torch.cat([model(normalise(p)) for p in photos.split(256)])
    print("float32 val top-1 %.4f top-5 %.4f" % accuracy(logits, classes))
    with open(os.path.join(args.model, "accuracy.tsv"), "w") as out:
        out.write("wnid\tphotos\ttop1\ttop5\n")
        for index, wnid in enumerate(wnids):
            mine = classes == index
            top1, top5 = accuracy(logits[mine], classes[mine])
            out.write(f"{wnid}\t{int(mine.sum())}\t{top1:.2f}\t{top5:.2f}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["train", "export"])
    parser.add_argument("data")
    parser.add_argument("checkpoint")
    parser.add_argument("model", nargs="?", default="models/animals")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=0.2, help="the highest learning rate")
    parser.add_argument("--resume", help="a checkpoint to start from")
    args = parser.parse_args()
    with open(os.path.join(args.data, "labels.tsv")) as labels:
        wnids = [line.split("\t")[0] for line in labels if line.strip()]
    train(args, wnids) if args.verb == "train" else export(args, wnids)


if __name__ == "__main__":
    main()
