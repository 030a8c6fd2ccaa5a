//! Large JSON is compressed for those who ask; everything else passes as it is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use axum::middleware::from_fn;
use axum::routing::get;
use cos_http::Reply;
use cos_http::middleware::compress;
use tower::ServiceExt;

async fn check(accepts: &str, uri: &str, compressed: bool) {
    let router = Router::new()
        .route("/large", get(|| async { Reply::default().json(&vec!["text"; 1000]) }))
        .route("/small", get(|| async { Reply::default().json(&["text"]) }))
        .route("/text", get(|| async { "text".repeat(1000) }))
        .layer(from_fn(compress));
    let request = Request::builder().uri(uri).header(header::ACCEPT_ENCODING, accepts);
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let is_compressed = response.headers().get(header::CONTENT_ENCODING).is_some();
    assert_eq!(is_compressed, compressed, "{accepts} {uri}");
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let mut text = String::new();
    if compressed {
        flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes.to_vec()).unwrap();
    }
    assert!(text.contains("text"));
}

#[tokio::test]
async fn only_large_json_is_compressed_for_those_who_ask() {
    check("deflate, gzip", "/large", true).await;
    check("identity", "/large", false).await;
    check("gzip", "/small", false).await;
    check("gzip", "/text", false).await;
}
