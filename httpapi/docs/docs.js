// Shows the OpenAPI document that lies one level up. Tokens that are entered stay
// in the page: nothing is remembered, and no server but this one is asked.
window.addEventListener("load", () => {
	window.ui = SwaggerUIBundle({
		url: "../openapi.json",
		dom_id: "#docs",
		deepLinking: true,
		persistAuthorization: false,
		validatorUrl: null,
		presets: [SwaggerUIBundle.presets.apis],
	});
});
