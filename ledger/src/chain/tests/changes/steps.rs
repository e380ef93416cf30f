//! Verifiers led along the changes of validators.

use super::*;

#[test]
fn receipts_of_all_heights_verify_with_the_steps_and_those_before_a_change_without() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let mut records = Vec::new();
    let mut record = |chain: &mut Chain, agency: u8, number: u64| {
        let transaction = fixture.transaction(agency, number..number + 1);
        let height = commit(chain, slice::from_ref(&transaction)).header.height;
        records.push((height, transaction.slots()[0].record_id));
    };
    record(&mut chain, 1, 0);
    apply(&mut chain, &agency(5), &[]);
    record(&mut chain, 5, 1);
    apply(&mut chain, &[validator(5, 5)], &[]);
    record(&mut chain, 5, 2);
    let old = registered(&chain, 2);
    apply(&mut chain, &[validator(2, 22)], &[old]);
    record(&mut chain, 2, 3);
    let leaving = [5, 69, 133].map(|seed| registered(&chain, seed));
    apply(&mut chain, &[], &leaving);
    record(&mut chain, 1, 4);
    let reader = chain.reader();
    let steps = reader.validator_changes(0, usize::MAX).expect("readable");
    assert_eq!(steps.iter().map(|step| step.header.height).collect::<Vec<_>>(), [4, 6, 8]);
    let paged = reader.validator_changes(5, 1).expect("readable");
    assert_eq!(paged, steps[1..2]);
    let steps: Vec<_> = steps.iter().map(|step| step.to_proto()).collect();
    for followed in 0..=steps.len() {
        let mut verifier = Verifier::new(&fixture.genesis);
        let known = v1::ValidatorChain { steps: steps[..followed].to_vec() };
        verifier.follow_chain(&known).expect("genuine");
        verifier.follow_encoded(&known.encode_to_vec()).expect("again");
        let last = [4, 6, 8, u64::MAX][followed];
        for (height, record) in &records {
            let receipt = reader.receipt(record).expect("readable").expect("committed");
            let outcome = verifier.verify_receipt(&receipt.encode_to_vec());
            if *height <= last {
                assert_eq!(outcome.expect("genuine").header.height, *height);
            } else {
                let error = outcome.expect_err("a step is missing");
                assert_eq!(error.code(), "VALIDATOR_STEP_MISSING", "{error}");
            }
        }
    }
}

#[test]
fn a_verifier_is_led_by_certified_steps_only() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    join(&mut chain);
    let old = registered(&chain, 2);
    apply(&mut chain, &[validator(2, 22)], &[old]);
    let steps = chain.reader().validator_changes(0, 10).expect("readable");
    let [first, second] = &steps[..] else { panic!("two steps") };
    let fresh = Verifier::new(&fixture.genesis);
    let skipped = fresh.clone().follow(second).expect_err("the first is missing");
    let missing = FinalityError::StepMissing { height: 3, known_from: 1 };
    assert_eq!(skipped, StepError::Finality(3, missing));
    let mut other_set = first.clone();
    other_set.validators = second.validators.clone();
    assert_eq!(fresh.clone().follow(&other_set), Err(StepError::Validators(2)));
    let mut uncertified = first.clone();
    uncertified.header.time_ms += 1;
    let refused = fresh.clone().follow(&uncertified).expect_err("another block");
    assert_eq!(refused.code(), "CERTIFICATE_BLOCK_HASH");
    let mut verifier = fresh;
    verifier.follow(first).expect("genuine");
    verifier.follow(second).expect("genuine");
    assert_eq!(verifier.follow(first), Ok(()), "known already");
    assert_eq!(verifier.validators(), &chain.tip().validators);
    assert_eq!(verifier.validators_at(2), &fixture.genesis.validators());
}
