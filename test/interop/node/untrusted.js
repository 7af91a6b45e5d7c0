// xmpp.js over TCP without the server's CA: STARTTLS must fail, because
// xmpp.js verifies. This shows that the other scripts verify too.

import { check, finish, server, step } from "./harness.js";
import { XmppJS } from "./xmppjs.js";

await step("tls.untrusted-refused", async () => {
  const xmpp = new XmppJS("tcp", server.accounts.romeo);
  const err = await xmpp.connect().then(() => undefined, (e) => e);
  check(err, "logged in over TLS with an unknown CA");
  check(/UNABLE_TO_|SELF_SIGNED/.test(err.code), `${err.code} ${err.message}`);
  return err.code;
});

finish();
