// Package interop proves Trivium with clients its authors did not write.
//
// The tests start one server, then run slixmpp and profanity over TCP with
// STARTTLS, xmpp.js and strophe.js in Node over TCP, WebSocket and BOSH, and
// Converse.js in two headless Chromium browsers, one on WebSocket and one on
// BOSH. Each client is a subprocess that reads the server's description (see
// description in describe_test.go) as JSON from INTEROP_SERVER and prints one
// JSON line per checked step; every step a client promises must be reported,
// so a script that ends early fails.
//
// TestSurvival is about sessions that outlive their connections. There the test
// itself is Romeo, and the client is Juliet: a subprocess that obeys one order per
// line (survivor_test.go). Her connections lead over proxies that lose them in all
// the ways a network does (road_test.go), and her process is suspended. Afterwards
// nothing may be lost, nothing come twice, and each sender's messages be in order,
// live and in the archive, under the same ids.
//
// Sessions change their framing: xmpp.js goes from TCP to WebSocket, stanza.js from
// WebSocket to BOSH. slixmpp, aioxmpp and profanity have TCP only; there a raw
// client of test/harness takes the session of the killed client over to WebSocket.
// Converse.js on WebSocket is reloaded, and logs in with nothing left in its
// browser's stores: the conversation must stand on the page again.
//
// TestBridge is about the bridge between XMPP and programs. Both ends are software of
// others: slixmpp, profanity and Converse.js are users of gateway domains whose
// program is a reader of the event stream; webhooks are verified by the reference
// libraries of Standard Webhooks and by PyNaCl and node:crypto; httpx-sse and the
// package eventsource read the event stream over connections that are cut; clients
// are generated from the server's OpenAPI document, compiled, and used.
//
// setup.sh installs the clients. A missing one is a failure, not a skip; only
// TRIVIUM_INTEROP=off turns the package off. With TRIVIUM_INTEROP=prosody the
// same scripts run against Debian's Prosody, which shows that a failure seen
// with Trivium is Trivium's and not the script's.
//
// Wire logs and the browsers' screenshots are kept in test/artifacts.
package interop
