"""One small ViT and one small ResNet for all tests that only need some encoder."""

from pathlib import Path

import pytest

from inspector.detection.encoder import Encoder
from tests.detection import models


@pytest.fixture(scope="session")
def vit_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return models.write_model(tmp_path_factory.mktemp("vit"), models.vit_keys(4))


@pytest.fixture(scope="session")
def vit(vit_files: tuple[Path, Path]) -> Encoder:
    return models.load(*vit_files)


@pytest.fixture(scope="session")
def resnet_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return models.write_model(tmp_path_factory.mktemp("resnet"), models.resnet_keys())


@pytest.fixture(scope="session")
def resnet(resnet_files: tuple[Path, Path]) -> Encoder:
    return models.load(*resnet_files)
