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
// setup.sh installs the clients. A missing one is a failure, not a skip; only
// TRIVIUM_INTEROP=off turns the package off. With TRIVIUM_INTEROP=prosody the
// same scripts run against Debian's Prosody, which shows that a failure seen
// with Trivium is Trivium's and not the script's.
//
// Wire logs and the browsers' screenshots are kept in test/artifacts.
package interop
