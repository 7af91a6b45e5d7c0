"""A client that openapi-python-client makes of the server's OpenAPI document, at work."""

import asyncio
import importlib
import pkgutil
import subprocess
import sys
import tempfile
from http import HTTPStatus
from pathlib import Path

import harness
from harness import SERVER, check, step
from rest import REST

ROMEO = SERVER["accounts"]["romeo"]["jid"]
JULIET = SERVER["accounts"]["juliet"]["jid"]
TEXT = "Art thou not Romeo? <&> 🌹"
NAME = "interop-openapi-python"


def module(name):
    return importlib.import_module("interop_client." + name)


def answer(response, status=HTTPStatus.OK):
    check(response.status_code == status, f"{response.status_code} {response.content}")
    return response.parsed


async def run(directory):
    admin = REST()
    async with step("openapi.document") as s:
        document = await admin.http.get(SERVER["rest"] + "/openapi.json")
        file = Path(directory, "openapi.json")
        file.write_bytes(document.content)
        s.detail = f"OpenAPI {document.json()['openapi']}, {len(document.json()['paths'])} paths"

    async with step("openapi.client-generated", timeout=60) as s:
        config = Path(directory, "config.yaml")
        # It would run ruff over what it has written.
        config.write_text("project_name_override: interop-client\npackage_name_override: interop_client\npost_hooks: []\n")
        done = await asyncio.to_thread(
            subprocess.run,
            [
                Path(sys.executable).parent / "openapi-python-client", "generate", "--path", file, "--meta", "none",
                "--config", config, "--output-path", Path(directory, "interop_client"),
            ],
            capture_output=True, text=True,
        )  # fmt: skip
        said = done.stdout + done.stderr
        print(said, file=sys.stderr)
        check(done.returncode == 0 and "ERROR" not in said, said)
        # What it knows nothing of are bodies of other types than JSON, forms and text.
        doubts = [line for line in said.splitlines() if line.startswith("WARNING")]
        reasons = [line for line in said.splitlines() if line.startswith("Unsupported content type")]
        check(len(doubts) == len(reasons), doubts)
        s.detail = " ".join(sorted(r.split()[-1] for r in reasons))

    sys.path.insert(0, directory)
    async with step("openapi.client-compiles") as s:
        client = module("client")
        names = [m.name for m in pkgutil.walk_packages(sys.modules["interop_client"].__path__, "interop_client.")]
        for name in names:
            importlib.import_module(name)
        s.detail = f"{len(names)} modules"
    await work(admin, client)
    await admin.close()


async def work(admin, client):
    models = module("models")
    token = await admin.token_for("openapi-python", "send:" + ROMEO, "read:" + ROMEO)
    options = {"base_url": SERVER["rest"], "raise_on_unexpected_status": True, "httpx_args": {"trust_env": False}}
    program = client.AuthenticatedClient(token=token.token, **options)
    operator = client.AuthenticatedClient(token=SERVER["admin"], **options)
    await token.close()
    send = module("api.messages.send_message").asyncio_detailed

    async with step("openapi.message-sent") as s:
        message = models.Submission(to=JULIET, body=TEXT, track=True)
        sent = answer(await send(client=program, body=message), HTTPStatus.ACCEPTED)
        check(isinstance(sent, models.Accepted) and sent.to == JULIET, sent)
        s.detail = sent.id

    async with step("openapi.message-once"):
        message = models.Submission(to=JULIET, body="once")
        ids = [
            answer(await send(client=program, body=message, idempotency_key="openapi-python-1"), HTTPStatus.ACCEPTED).id
            for _ in range(2)
        ]
        check(ids[0] == ids[1], ids)

    async with step("openapi.delivery-status"):
        status = answer(await module("api.messages.get_message").asyncio_detailed(sent.id, client=program))
        check(isinstance(status, models.DeliveryStatus), status)
        check(status.to == JULIET and status.from_.startswith(ROMEO) and status.status == "accepted", status)

    async with step("openapi.problem"):
        wrong = models.Submission(to=JULIET, body=TEXT, from_=JULIET)
        problem = answer(await send(client=program, body=wrong), HTTPStatus.FORBIDDEN)
        check(isinstance(problem, models.Problem) and problem.status == 403 and problem.title, problem)

    async with step("openapi.archive-paged") as s:
        for i in range(10):
            answer(await send(client=program, body=models.Submission(to=JULIET, body=f"line {i}")), HTTPStatus.ACCEPTED)
        query = module("api.accounts.query_archive").asyncio_detailed
        bodies, pages, more = [], 0, {}
        while True:
            page = answer(await query(ROMEO, client=program, limit=5, with_=JULIET, **more))
            check(len(page.items) <= 5 and all(item.sent and item.id for item in page.items), page)
            bodies += [item.message.body for item in page.items]
            pages += 1
            if not page.next_:
                break
            more = {"after": page.next_}
        check(bodies == [TEXT, "once"] + [f"line {i}" for i in range(10)], bodies)
        s.detail = f"{pages} pages"

    async with step("openapi.webhook-managed") as s:
        hook = models.WebhookChange(
            url="http://127.0.0.1:9/hook", watch=[ROMEO], allow_private=True, types=[models.WebhookChangeTypesItem.MESSAGE]
        )
        hooks = "api.webhooks."
        made = answer(await module(hooks + "put_webhook").asyncio_detailed(NAME, client=operator, body=hook), HTTPStatus.CREATED)
        check(made.secret.startswith("whsec_") and made.format_ == "json", made)
        trial = answer(await module(hooks + "test_webhook").asyncio_detailed(NAME, client=operator))
        s.detail = str(trial.to_dict())  # nobody listens on the port
        check(not trial.ok and trial.error, trial)
        status = answer(await module(hooks + "get_webhook_status").asyncio_detailed(NAME, client=operator))
        check(isinstance(status, models.WebhookStatus), status)
        listed = answer(await module(hooks + "list_webhooks").asyncio_detailed(client=operator, limit=500))
        check(NAME in [w.name for w in listed.items], listed)
        log = answer(await module(hooks + "list_deliveries").asyncio_detailed(NAME, client=operator))
        check(isinstance(log.items, list), log)
        answer(await module(hooks + "remove_webhook").asyncio_detailed(NAME, client=operator), HTTPStatus.NO_CONTENT)
        gone = answer(await module(hooks + "get_webhook").asyncio_detailed(NAME, client=operator), HTTPStatus.NOT_FOUND)
        check(isinstance(gone, models.Problem), gone)


with tempfile.TemporaryDirectory(prefix="interop-openapi-") as where:
    asyncio.run(run(where))
sys.exit(1 if harness.failures else 0)
