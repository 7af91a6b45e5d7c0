"""Runs every slixmpp step in order; exits 1 when one failed."""

import asyncio
import sys

import harness
import login
import messaging
import services


async def main():
    await login.run()
    await messaging.run()
    await services.run()


asyncio.run(main())
sys.exit(1 if harness.failures else 0)
