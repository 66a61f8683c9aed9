//! See [`crate::hostile`].

#[test]
fn a_request_may_be_anything() {
    hale_hostile::hold_for(&crate::hostile::REQUEST, 192);
}
