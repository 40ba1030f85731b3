//! The description of the API, made from the handlers.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use springtide_core::api::Problem;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::PROBLEM_JSON;
use super::{Shared, cluster, health, jobs, launches, leases, metrics, models, nodes, outputs};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Springtide",
        description = "An elastic job service for libtorch inference. Times are RFC 3339 UTC with six fractional \
                       digits; durations are seconds in fields that end in `_s`, sizes bytes in fields that end in \
                       `_bytes`. Errors are problem documents (RFC 9457)."
    ),
    paths(outputs::bytes),
    components(schemas(Problem)),
    modifiers(&Token)
)]
struct Document;

/// The bearer token.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// All endpoints but those whose path a template can't say.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(jobs::submit::submit, jobs::list::list))
        .routes(routes!(jobs::show::show))
        .routes(routes!(jobs::outputs::outputs))
        .routes(routes!(jobs::tasks::tasks))
        .routes(routes!(jobs::events::events))
        .routes(routes!(jobs::cancel::cancel))
        .routes(routes!(jobs::retry::retry))
        .routes(routes!(models::push::push, models::list::list))
        .routes(routes!(models::show::show))
        .routes(routes!(nodes::list::list))
        .routes(routes!(nodes::drain::drain))
        .routes(routes!(nodes::undrain::undrain))
        .routes(routes!(nodes::retire::retire))
        .routes(routes!(cluster::cluster))
        .routes(routes!(launches::put))
        .routes(routes!(leases::wish))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
}

/// The document as it is served; every operation may answer with a problem.
#[derive(Clone)]
pub struct Rendered(Bytes);

/// Completes and writes the document.
pub fn render(mut document: utoipa::openapi::OpenApi) -> Rendered {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            add_problem(operation);
        }
    }
    Rendered(serde_json::to_vec(&document).expect("a description of texts can be written").into())
}

fn add_problem(operation: &mut Operation) {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description("What is wrong").content(PROBLEM_JSON, content).build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
}

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}
