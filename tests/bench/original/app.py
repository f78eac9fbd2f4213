"""The original's backend, as its course built it: Flask, torchvision, one model loaded when the worker starts.

Run it as it was run: gunicorn --workers 2 --bind 127.0.0.1:8081 app:app. The network is MODEL_NAME of torchvision
(resnet152 by default) with random weights, as speed needs no trained ones. A photo comes as the body too, so that a load
test measures the service and not a download."""
import io
import os
import urllib.request

import torch
import torchvision
from flask import Flask, jsonify, request
from PIL import Image

app = Flask(__name__)
torch.manual_seed(0)
model = getattr(torchvision.models, os.environ.get('MODEL_NAME', 'resnet152'))(weights=None).eval()
preprocess = torchvision.transforms.Compose([
    torchvision.transforms.Resize(256), torchvision.transforms.CenterCrop(224), torchvision.transforms.ToTensor(),
    torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])


@app.get('/hello')
def hello():
    return jsonify('Hello!')


@app.post('/predict')
def predict():
    if request.is_json:
        with urllib.request.urlopen(request.get_json()['url'], timeout=10) as answer:
            photo = answer.read()
    else:
        photo = request.get_data()
    image = Image.open(io.BytesIO(photo)).convert('RGB')
    with torch.no_grad():
        scores = model(preprocess(image).unsqueeze(0))[0]
    return jsonify(category=f'class {int(scores.argmax())}')
