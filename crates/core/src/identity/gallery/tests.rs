use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::identity::calibration::tests::calibration;

fn walk(feature: &[f32], windows: usize) -> Template {
    let mut template = Template::empty(feature.len());
    (0..windows).for_each(|_| template.add_window(feature));
    template
}

fn template(feature: [f32; 3]) -> Template {
    walk(&feature, 9)
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn gallery() -> Gallery {
    Gallery::new(3, calibration())
}

#[test]
fn the_nearest_users_come_first() {
    let mut gallery = gallery();
    let probe = template([1.0, 0.1, 0.0]);
    assert_eq!(gallery.rank(&probe, None, 5), []);
    gallery.add(&user("ann"), &template([2.0, 0.0, 0.0]));
    gallery.add(&user("bob"), &template([0.0, 1.0, 0.0]));
    gallery.add(&user("cem"), &template([-1.0, 0.0, 0.0]));
    let names = |among: Option<&[&str]>, limit| -> Vec<String> {
        let among = among.map(|names| names.iter().map(|name| user(name)).collect());
        let ranked = gallery.rank(&probe, among.as_ref(), limit);
        ranked.into_iter().map(|candidate| candidate.user.to_string()).collect()
    };
    assert_eq!(names(None, 5), ["ann", "bob", "cem"]);
    assert_eq!(names(None, 1), ["ann"]);
    assert_eq!(names(Some(&["cem", "bob", "eve"]), 5), ["bob", "cem"]);
    let among = ["cem", "bob", "eve"].map(user).into();
    assert_eq!((gallery.count(None), gallery.count(Some(&among))), (3, 2));
    let ann = gallery.compare(&user("ann"), &probe).unwrap();
    assert!(ann.score > 0.99);
    assert_eq!(gallery.rank(&probe, None, 1), [ann]);
    assert_eq!(gallery.compare(&user("eve"), &probe), None);
}

#[test]
fn a_user_is_found_by_each_way_of_walking() {
    let mut gallery = gallery();
    let (slow, quick) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
    for way in [slow, quick, slow] {
        gallery.add(&user("ann"), &template(way));
    }
    gallery.add(&user("bob"), &template([0.0, 0.0, 1.0]));
    assert_eq!(gallery.templates(&user("ann")).unwrap().as_slice().len(), 2);
    for way in [slow, quick] {
        let [ann, bob] = &gallery.rank(&template(way), None, 5)[..] else { panic!() };
        assert!(ann.user == user("ann") && ann.score > 0.99 && bob.strength < ann.strength);
    }
}

const FEATURES: usize = 200;

/// People with a direction of their own and one that all of them share.
fn crowd(people: usize, shared: f32, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut value = || random.random_range(-1.0..1.0f32);
    let common: Vec<f32> = (0..FEATURES).map(|_| value()).collect();
    let person = |_| common.iter().map(|common| shared * common + value()).collect();
    (0..people).map(person).collect()
}

#[test]
fn impostor_strengths_do_not_depend_on_what_users_have_in_common() {
    for shared in [0.0, 1.0, 2.0] {
        let people = crowd(60, shared, 5);
        let (enrolled, strangers) = people.split_at(30);
        let mut gallery = Gallery::new(FEATURES, calibration());
        for (number, person) in enrolled.iter().enumerate() {
            gallery.add(&user(&format!("user{number}")), &walk(person, 29));
        }
        let strengths = |walker: &Vec<f32>| {
            let ranked = gallery.rank(&walk(walker, 9), None, 30);
            ranked.into_iter().map(|candidate| candidate.strength).collect::<Vec<f32>>()
        };
        let impostors: Vec<f32> = strangers.iter().flat_map(strengths).collect();
        let count = impostors.len() as f32;
        let mean = impostors.iter().sum::<f32>() / count;
        let high = impostors.iter().filter(|strength| **strength > 3.5).count() as f32 / count;
        assert!(mean.abs() < 1.5 && high < 0.01, "{shared}: {mean} {high}");
        let own = enrolled.iter().filter(|walker| strengths(walker)[0] > 3.5).count();
        assert!(own > 27, "{shared}: {own}");

        let cohort = gallery.cohort();
        assert_eq!((cohort.users(), cohort.impostor_strengths().len()), (30, 30 * 29));
        assert_eq!(cohort.tails().users, 30);
    }
}

#[test]
fn a_gallery_of_one_user_keeps_the_prior_thresholds() {
    let mut gallery = gallery();
    let of_model = gallery.tails();
    assert_eq!(gallery.cohort().tails(), of_model);
    gallery.add(&user("ann"), &template([1.0, 0.0, 0.0]));
    assert_eq!(gallery.cohort().tails(), of_model);
}

proptest! {
    #[test]
    fn replaced_users_leave_no_trace(
        walks in prop::collection::vec((0..6usize, prop::array::uniform3(-9.0..9.0f32)), 0..12),
        gone in prop::collection::vec(0..6usize, 0..6),
        probe in prop::array::uniform3(-9.0..9.0f32),
    ) {
        let name = |number: usize| user(&format!("user{number}"));
        let (mut one, mut fresh) = (gallery(), gallery());
        let probe = template(probe);
        for (who, feature) in &walks {
            one.add(&name(*who), &template(*feature));
            // What it keeps of this must not outlive the next change.
            one.rank(&probe, None, 9);
            if !gone.contains(who) {
                fresh.add(&name(*who), &template(*feature));
            }
        }
        for &who in &gone {
            one.replace(&name(who), UserTemplates::default());
            one.rank(&probe, None, 9);
        }
        let scores = |gallery: &Gallery| -> Vec<Option<Candidate>> {
            (0..6).map(|who| gallery.compare(&name(who), &probe)).collect()
        };
        prop_assert_eq!(one.len(), fresh.len());
        prop_assert_eq!(one.ids_bytes, fresh.ids_bytes);
        prop_assert_eq!(one.directions.owners().len(), fresh.directions.owners().len());
        prop_assert_eq!(scores(&one), scores(&fresh));
        prop_assert_eq!(one.rank(&probe, None, 9), fresh.rank(&probe, None, 9));
        prop_assert_eq!(one.cohort().tails(), fresh.cohort().tails());
    }

    #[test]
    fn a_search_finds_those_that_a_comparison_with_everybody_finds(
        seed: u64,
        users in 0..400usize,
        feature_len in prop::sample::select(vec![2usize, 32, 40, 200]),
        spread in prop::sample::select(vec![1e-5f32, 1e-3, 1.0, 30.0]),
        limit in 0..9usize,
        absent in prop::option::of(0..400usize),
    ) {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut near = || {
            let values = (0..feature_len).map(|_| 1.0 + random.random_range(-spread..spread));
            walk(&values.collect::<Vec<f32>>(), random.random_range(1..40))
        };
        let mut gallery = Gallery::new(feature_len, calibration());
        for number in 0..users {
            // Some users have two ways of walking.
            for _ in 0..1 + usize::from(number % 5 == 0) {
                gallery.add(&user(&format!("user{number}")), &near());
            }
        }
        let probe = near();
        let all = gallery.users.keys().cloned().collect();
        let absent = absent.map(|number| user(&format!("user{number}")));
        let found = |among| gallery.rank_without(absent.as_ref(), &probe, among, limit);
        prop_assert_eq!(found(None), found(Some(&all)));
    }

    #[test]
    fn the_cohort_is_the_first_of_an_order(
        changes in prop::collection::vec((0..200usize, any::<bool>()), 0..400),
    ) {
        let mut changed = gallery();
        let probe = template([1.0, 50.0, 9.0]);
        for (number, stays) in changes {
            let templates = match stays {
                true => UserTemplates::new([&template([1.0, number as f32, 0.0])], &calibration()),
                false => UserTemplates::default(),
            };
            changed.replace(&user(&format!("user{number}")), templates);
            // What it keeps of this must not outlive the next change.
            changed.rank(&probe, None, 9);
        }
        let mut fresh = gallery();
        for (user, enrolled) in &changed.users {
            fresh.replace(user, enrolled.templates.clone());
        }
        for user in changed.users.keys() {
            prop_assert_eq!(changed.compare(user, &probe), fresh.compare(user, &probe));
        }
        let (changed, fresh) = (changed.cohort(), fresh.cohort());
        prop_assert_eq!(changed.similarities, fresh.similarities);
        prop_assert_eq!(changed.users, fresh.users);
    }
}

/// A vector that climbs towards as many templates as it can, with all templates known.
fn made_for_many(gallery: &Gallery, opened: &dyn Fn(&Template) -> usize) -> Template {
    let templates: Vec<&Template> =
        gallery.users.values().flat_map(|user| user.templates.as_slice()).collect();
    let mut random = Pcg64Mcg::seed_from_u64(9);
    let mut best = (0, templates[0].clone());
    for _ in 0..300 {
        let count = random.random_range(2..9);
        let mut sum = vec![0.0; gallery.feature_len()];
        for _ in 0..count {
            let template = templates[random.random_range(0..templates.len())];
            sum.iter_mut().zip(template.direction()).for_each(|(sum, value)| *sum += value);
        }
        let probe = walk(&sum, 29);
        best = std::cmp::max_by_key((opened(&probe), probe), best, |it| it.0);
    }
    best.1
}

#[test]
fn a_vector_made_for_many_users_opens_few() {
    let people = crowd(24, 1.0, 7);
    let mut gallery = Gallery::new(FEATURES, calibration());
    for (number, person) in people.iter().enumerate() {
        gallery.add(&user(&format!("user{number}")), &walk(person, 29));
    }
    gallery.set_tails(gallery.cohort().tails());
    let tail = gallery.tails().single;
    let opened = |probe: &Template, verdict: &dyn Fn(&Candidate) -> Verdict| {
        let ranked = gallery.rank(probe, None, 24);
        ranked.iter().filter(|it| verdict(it) == Verdict::Accept).count()
    };
    let by_strength = |probe: &Template, fmr| {
        let calibration = gallery.calibration();
        opened(probe, &|it| Verdict::new(it.strength, probe, fmr, calibration, &tail))
    };
    let in_gallery =
        |probe: &Template, fmr| opened(probe, &|it| gallery.verdict(it, probe, fmr, &tail));
    for (fmr, most) in [(0.1, 9), (0.01, 2)] {
        let probe = made_for_many(&gallery, &|probe| by_strength(probe, fmr));
        assert!(by_strength(&probe, fmr) > 2, "{fmr}: the vector is no threat");
        let probe = made_for_many(&gallery, &|probe| in_gallery(probe, fmr));
        assert!(in_gallery(&probe, fmr) <= most, "{fmr}");
    }
    // Everybody's own walk is accepted.
    for (number, person) in people.iter().enumerate() {
        let probe = walk(person, 29);
        let own = gallery.compare(&user(&format!("user{number}")), &probe).unwrap();
        assert_eq!(gallery.verdict(&own, &probe, 0.001, &tail), Verdict::Accept);
    }
}
