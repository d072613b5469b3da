"""The config that we ship, through Synapse's own loader and our module's parser."""

from pathlib import Path
from typing import cast

from synapse.config.homeserver import HomeServerConfig

import synapse_super_app
from synapse_super_app.commands import data_folder
from synapse_super_app.commands.homeserver_config import load, overridden, write_copy
from synapse_super_app.config import Config, FeatureName

SHIPPED = Path(__file__).parents[2] / "homeserver.yaml"


def loaded(folder: Path) -> HomeServerConfig:
    config = overridden(load(SHIPPED), data=folder)
    data_folder.prepare(config, has_accounts=False)
    copy = write_copy(config, folder / "homeserver.yaml")
    return HomeServerConfig.load_config("test", ["-c", str(copy.path)])


def test_synapse_reads_it_and_every_option_that_we_depend_on_has_its_effect(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert config.server.server_name == "localhost"
    assert config.server.public_baseurl == "http://localhost:8008/"
    assert config.server.max_event_delay_duration is not None
    assert config.experimental.msc4075_enabled
    assert config.ratelimiting.rc_user_directory.per_second >= 1
    assert config.registration.registration_shared_secret
    assert not config.registration.enable_registration
    assert config.key.key_servers == []
    (database,) = config.database.databases
    assert database.config["args"]["database"] == str(tmp_path / "homeserver.db")


def module_config(folder: Path) -> Config:
    ((module, config),) = loaded(folder).modules.loaded_modules
    assert module is synapse_super_app.SuperApp
    return cast(Config, config)


def test_its_module_entry_is_ours_and_needs_no_licence(tmp_path: Path) -> None:
    config = module_config(tmp_path)
    assert config.payments.mode == "credits"
    assert [(asset.code, asset.scale) for asset in config.payments.assets] == [("PTS", 0)]
    assert set(config.features.enabled()) == set(FeatureName) - {FeatureName.RECOVERY}


def test_it_writes_out_the_defaults_and_no_other_values(tmp_path: Path) -> None:
    default = Config()
    payments = default.payments.model_copy(update={"halt_file": str(tmp_path / "payments.halted")})
    assert module_config(tmp_path) == default.model_copy(update={"payments": payments})
