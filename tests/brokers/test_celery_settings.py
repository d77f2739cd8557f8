"""Real workers with the settings that real projects have (docs/reference/compatibility.md)."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from celery_durable.run import Run
from tests.apps.shop import LOGGING
from tests.brokers.shop import Shop, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.usefixtures("shift"),
    on_redis,
]

WITHOUT_EFFECT: dict[str, Any] = {
    "broker_channel_error_retry": True,
    "broker_connection_retry": False,
    "broker_connection_timeout": 2,
    "broker_heartbeat": 0,
    "broker_pool_limit": 0,
    "enable_utc": False,
    "result_backend": "redis://127.0.0.1:1/0",
    "result_extended": True,
    "result_serializer": "pickle",
    "task_acks_late": False,
    "task_acks_on_failure_or_timeout": False,
    "task_annotations": {"*": {"rate_limit": "1/h", "expires": 0.001, "max_retries": 0}},
    "task_compression": "gzip",
    "task_default_delivery_mode": 1,
    "task_default_exchange": "work",
    "task_default_exchange_type": "topic",
    "task_default_priority": 5,
    "task_default_rate_limit": "1/h",
    "task_eager_propagates": True,
    "task_ignore_result": True,
    "task_inherit_parent_priority": True,
    "task_protocol": 1,
    "task_publish_retry": False,
    "task_queue_max_priority": 10,
    "task_reject_on_worker_lost": False,
    "task_remote_tracebacks": True,
    "task_repr_maxlevels": 1,
    "task_retry_on_worker_lost": True,
    "task_send_sent_event": True,
    "task_store_eager_result": True,
    "task_store_errors_even_if_ignored": True,
    "task_track_started": True,
    "timezone": "Asia/Kathmandu",
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_deduplicate_successful_tasks": True,
    "worker_direct": True,
    "worker_disable_prefetch": True,
    "worker_disable_rate_limits": True,
    "worker_enable_remote_control": False,
    "worker_eta_task_limit": 1,
    "worker_hijack_root_logger": False,
    "worker_log_format": "%(levelname)s %(message)s",
    "worker_lost_wait": 0.1,
    "worker_pool_putlocks": False,
    "worker_pool_restarts": True,
    "worker_prefetch_multiplier": 1,
    "worker_proc_alive_timeout": 1,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": True,
    "worker_soft_shutdown_timeout": 1.0,
    "worker_task_log_format": "%(levelname)s %(message)s",
    "worker_timer_precision": 10,
}


def worker_with(shop: Shop, config: dict[str, Any], **env: str) -> WorkerNode:
    """A worker with these settings."""
    return shop.worker(
        concurrency=1,
        ready=LOGGING not in env,  # Celery's loggers are silenced as ours are
        conf=config,
        # Celery refuses a worker of root's that takes pickle.
        env={"C_FORCE_ROOT": "1", **env},
    )


def completes(run: Run) -> bool:
    run.result(timeout=20)
    return run.history()[-1].unit == "ship"


def test_settings_that_do_not_matter_to_durable_steps(shop: Shop, tmp_path: Path) -> None:
    state = {"worker_state_db": str(tmp_path / "state")}
    worker = worker_with(shop, {**WITHOUT_EFFECT, **state})
    assert completes(shop.start())
    shop.app.send_task("durable.start", kwargs={"workflow": "order"}, queue=shop.broker.queue())
    wait_until(
        lambda: shop.query("SELECT status FROM durable_run") == [("completed",)] * 2,
        message="the run that a message has started",
    )
    assert "could not be published" not in worker.logs()


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_an_app_that_accepts_pickle_only_gets_pickle(shop: Shop, serializer: str) -> None:
    worker = worker_with(shop, {"accept_content": ["pickle"], "task_serializer": serializer})
    assert completes(shop.start())
    assert "ERROR" not in worker.logs()


def test_an_app_that_accepts_signed_messages_only_gets_signed_ones(
    shop: Shop, tmp_path: Path
) -> None:
    certify(tmp_path)
    shop.hint(shop.token(unsigned := shop.start()))
    worker = worker_with(
        shop,
        {
            "accept_content": ["auth"],
            "task_serializer": "auth",
            "event_serializer": "auth",
            "security_key": str(tmp_path / "worker.key"),
            "security_certificate": str(tmp_path / "worker.pem"),
            "security_cert_store": str(tmp_path / "*.pem"),
        },
    )
    assert completes(unsigned)
    worker.wait_for_log("Received invalid task message: Refusing to deserialize")
    assert worker.logs().count("Received invalid task message") == 1


def certify(directory: Path) -> None:
    """A key, and the certificate that it signed itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "worker")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(
        pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (directory / "worker.key").write_bytes(secret)
    (directory / "worker.pem").write_bytes(certificate.public_bytes(pem))


def test_spawned_children_know_the_workflows_and_their_worker(shop: Shop) -> None:
    worker = worker_with(shop, {"worker_pool_start_method": "spawn"})
    assert completes(shop.start())
    rows = shop.query("SELECT hostname, pool, queues FROM durable_worker")
    assert rows == [(worker.hostname(), "prefork", [shop.broker.queue()])]


def test_a_logging_configuration_that_silences_the_library_is_undone(shop: Shop) -> None:
    root = {"level": "INFO", "handlers": ["out"]}
    out = {"class": "logging.StreamHandler"}
    config = {"version": 1, "root": root, "handlers": {"out": out}}
    worker = worker_with(shop, {}, **{LOGGING: json.dumps(config)})
    assert completes(shop.start())
    worker.wait_for_log("is registered (pid ")
    assert worker.logs().count("The logging configuration had silenced") == 1
