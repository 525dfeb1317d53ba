//! The filters of a network's first layer.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use maud::{Markup, html};

use super::Shown;
use crate::ask::page::subjects::Subject;
use crate::ask::show::filters;

/// Filters that are drawn.
const FILTERS: usize = 256;

/// The first convolution that sees red, green and blue.
pub fn filters_sql(subject: &Subject) -> Vec<String> {
    vec![format!(
        "SELECT tensor, shape, dtype, data FROM {} WHERE array_length(shape) = 4 AND shape[2] = 3 AND shape[3] * shape[4] > 1 LIMIT 1",
        subject.table()
    )]
}

/// A sheet of filters.
pub fn filters(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    if answer.is_empty() {
        return Ok(None);
    }
    // What cannot be drawn (other numbers than those of 32 bits) is said in its place.
    let shown = match filters::draw(std::slice::from_ref(&answer.rows), FILTERS, &page.subject.stage) {
        Ok(shown) => shown,
        Err(error) => return Ok(Some(html! { p { (error.to_string()) } })),
    };
    let canvas = &shown.canvas;
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&canvas.pixels, canvas.width as u32, canvas.height as u32, ExtendedColorType::Rgb8)
        .context("cannot encode the filters")?;
    let note = shown.note.unwrap_or_default();
    Ok(Some(html! {
        p { (note) }
        img.sheet alt=(format!("{note} of {}", page.subject.stage)) width=(canvas.width) height=(canvas.height)
            src=(format!("data:image/png;base64,{}", STANDARD.encode(&png))) {}
    }))
}
