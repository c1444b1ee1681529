use super::*;
use proptest::prelude::*;

fn scopes(text: &str) -> ScopeSet {
    text.parse().unwrap()
}

fn res(text: &str) -> ResSet {
    text.parse().unwrap()
}

fn ladder() -> Catalogue {
    let entry = |name: &str, implies: &str| (name.parse().unwrap(), scopes(implies));
    Catalogue::new([entry("Admin", "Supervisor"), entry("Supervisor", "Worker"), entry("Worker", "")]).unwrap()
}

#[test]
fn beyond_is_what_is_written_and_not_allowed() {
    let rights = |scope: &str, paths: &str| Rights { scope: scopes(scope), res: res(paths) };
    let beyond = rights("Admin Worker Gone", "plant/7 office").beyond(&rights("Supervisor", "plant"), &ladder());
    assert_eq!(
        beyond,
        rights("Admin", "office"),
        "what the ceiling implies is allowed, what does not exist is nothing"
    );
    assert!(rights("Worker", "plant/7").beyond(&rights("Admin", "*"), &ladder()).is_empty());
    assert_eq!(rights("Worker", "*").beyond(&rights("Worker", "plant"), &ladder()), rights("", "*"));
}

fn rights(scope: &str, paths: &str) -> Rights {
    Rights { scope: scopes(scope), res: res(paths) }
}

#[test]
fn a_scope_brings_all_it_implies() {
    assert_eq!(ladder().expand(&scopes("Admin")), scopes("Admin Supervisor Worker"));
    assert_eq!(ladder().expand(&scopes("Worker Stranger")), scopes("Worker"));
}

#[test]
fn scopes_that_imply_each_other_are_refused() {
    let entry = |name: &str, implies: &str| (name.parse().unwrap(), scopes(implies));
    let circle = Catalogue::new([entry("a", "b"), entry("b", "c"), entry("c", "a")]);
    assert!(matches!(circle, Err(RightsError::Cycle(_))));
    assert!(Catalogue::new([entry("a", "a")]).is_err());
    // Two ways to the same scope are no circle.
    assert!(Catalogue::new([entry("a", "b c"), entry("b", "d"), entry("c", "d"), entry("d", "")]).is_ok());
}

#[test]
fn a_path_covers_what_is_below_it_and_not_its_neighbour() {
    let plant: Res = "plant/7".parse().unwrap();
    for (path, covered) in
        [("plant/7", true), ("plant/7/line/3", true), ("plant/70", false), ("plant", false), ("*", false)]
    {
        assert_eq!(plant.covers(&path.parse().unwrap()), covered, "{path}");
    }
    assert!(Res::all().covers(&plant));
}

#[test]
fn what_is_no_path_or_scope_is_refused() {
    for text in ["", "/", "a//b", "/a", "a/", "a/../b", "a/./b", "a b", "a/*", "ä", "a\0"] {
        assert!(text.parse::<Res>().is_err(), "{text:?}");
    }
    for text in ["", "a b", "\"", "\\", "ä", "a\n"] {
        assert!(text.parse::<Scope>().is_err(), "{text:?}");
    }
}

#[test]
fn asking_for_nothing_grants_everything() {
    let ceiling = rights("Admin", "*").intersect(&rights("Supervisor", "plant/7 plant/8"), &ladder());
    assert_eq!(grant(&Requested::default(), &ceiling, &ladder()), Ok(rights("Supervisor Worker", "plant/7 plant/8")));
}

#[test]
fn asking_for_less_grants_that_with_what_it_implies() {
    let ceiling = rights("Admin", "*").intersect(&rights("Admin", "plant/7"), &ladder());
    let asked = Requested { scope: Some(scopes("Supervisor")), res: Some(res("plant/7/line/3")) };
    assert_eq!(grant(&asked, &ceiling, &ladder()), Ok(rights("Supervisor Worker", "plant/7/line/3")));
}

#[test]
fn asking_for_more_is_refused_by_name() {
    let ceiling = rights("Supervisor", "plant/7/line/3").intersect(&rights("Admin", "*"), &ladder());
    let asked = |s: Option<&str>, r: Option<&str>| Requested { scope: s.map(scopes), res: r.map(res) };
    assert_eq!(grant(&asked(Some("Admin"), None), &ceiling, &ladder()), Err(Excess::Scope("Admin".parse().unwrap())));
    assert_eq!(grant(&asked(None, Some("plant/7")), &ceiling, &ladder()), Err(Excess::Res("plant/7".parse().unwrap())));
}

#[test]
fn the_words_of_openid_connect_are_ignored_beside_a_scope_and_refused_alone() {
    let ceiling = rights("Supervisor Worker", "*");
    let asked = |s: &str| grant(&Requested { scope: Some(scopes(s)), res: None }, &ceiling, &ladder());
    assert_eq!(asked("offline_access openid profile Worker"), Ok(rights("Worker", "*")));
    assert_eq!(asked("openid profile"), Err(Excess::Scope("openid".parse().unwrap())));
    assert_eq!(asked("openid Admin"), Err(Excess::Scope("Admin".parse().unwrap())));
    assert_eq!(asked("Openid Worker"), Err(Excess::Scope("Openid".parse().unwrap())), "every other word counts");
}

#[test]
fn a_scope_that_is_named_like_a_word_of_openid_connect_is_a_scope() {
    let catalogue = Catalogue::new([("email".parse().unwrap(), scopes("")), ("Worker".parse().unwrap(), scopes(""))]);
    let catalogue = catalogue.unwrap();
    let asked = |held: &str| {
        grant(&Requested { scope: Some(scopes("email openid")), res: None }, &rights(held, "*"), &catalogue)
    };
    assert_eq!(asked("Worker email"), Ok(rights("email", "*")));
    assert_eq!(asked("Worker"), Err(Excess::Scope("email".parse().unwrap())));
}

#[test]
fn nothing_in_common_is_refused() {
    let ceiling = rights("Admin", "plant/7").intersect(&rights("Admin", "plant/8"), &ladder());
    assert_eq!(grant(&Requested::default(), &ceiling, &ladder()), Err(Excess::Nothing));
}

prop_compose! {
    fn any_scopes()(names in prop::collection::btree_set("[a-f]", 0..5)) -> ScopeSet {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }
}

prop_compose! {
    // A scope may imply only later letters: never a circle.
    fn any_catalogue()(rows in prop::collection::vec(any_scopes(), 6)) -> Catalogue {
        let names: Vec<Scope> = ["a", "b", "c", "d", "e", "f"].iter().map(|n| n.parse().unwrap()).collect();
        let entries = names.iter().zip(rows).map(|(n, r)| (n.clone(), r.iter().filter(|s| *s > n).cloned().collect()));
        Catalogue::new(entries.collect::<Vec<_>>()).unwrap()
    }
}

fn any_res() -> impl Strategy<Value = ResSet> {
    prop::collection::vec("\\*|[ab](/[ab]){0,3}", 0..5).prop_map(|v| v.iter().map(|p| p.parse().unwrap()).collect())
}

prop_compose! {
    fn any_rights()(scope in any_scopes(), res in any_res()) -> Rights {
        Rights { scope, res }
    }
}

proptest! {
    #[test]
    fn nothing_is_beyond_exactly_where_all_of_it_may_be_granted(
        catalogue in any_catalogue(), rights in any_rights(), ceiling in any_rights()
    ) {
        let allowed = catalogue.expand(&rights.scope).first_beyond(&catalogue.expand(&ceiling.scope)).is_none()
            && rights.res.first_beyond(&ceiling.res).is_none();
        prop_assert_eq!(rights.beyond(&ceiling, &catalogue).is_empty(), allowed);
        prop_assert!(rights.intersect(&ceiling, &catalogue).beyond(&ceiling, &catalogue).is_empty());
    }

    #[test]
    fn nothing_is_granted_that_any_of_the_three_lacks(
        catalogue in any_catalogue(), credential in any_rights(), client in any_rights(), owner in any_rights(),
        scope in prop::option::of(any_scopes()), paths in prop::option::of(any_res()), probe in "[ab](/[ab]){0,4}"
    ) {
        let ceiling = credential.intersect(&client, &catalogue).intersect(&owner, &catalogue);
        let requested = Requested { scope, res: paths };
        if let Ok(granted) = grant(&requested, &ceiling, &catalogue) {
            let probe: Res = probe.parse().unwrap();
            for bound in [&credential, &client, &owner] {
                prop_assert_eq!(granted.scope.first_beyond(&catalogue.expand(&bound.scope)), None);
                prop_assert_eq!(granted.res.first_beyond(&bound.res), None);
                prop_assert!(!granted.res.covers(&probe) || bound.res.covers(&probe));
            }
            if let Some(asked) = &requested.scope {
                prop_assert_eq!(granted.scope.first_beyond(&catalogue.expand(asked)), None);
            }
            prop_assert_eq!(catalogue.expand(&granted.scope), granted.scope);
        }
    }

    #[test]
    fn intersection_covers_exactly_what_both_cover(a in any_res(), b in any_res(), probe in "\\*|[ab](/[ab]){0,4}") {
        let probe: Res = probe.parse().unwrap();
        let both = a.intersect(&b);
        prop_assert_eq!(both.covers(&probe), a.covers(&probe) && b.covers(&probe));
        prop_assert_eq!(&both, &b.intersect(&a));
        prop_assert_eq!(&a.intersect(&a), &a);
    }

    #[test]
    fn lowering_the_owner_never_raises_what_is_granted(
        catalogue in any_catalogue(), client in any_rights(), owner in any_rights(), lower in any_rights()
    ) {
        let lowered = owner.intersect(&lower, &catalogue);
        let before = client.intersect(&owner, &catalogue);
        let after = client.intersect(&lowered, &catalogue);
        prop_assert_eq!(after.scope.first_beyond(&before.scope), None);
        prop_assert_eq!(after.res.first_beyond(&before.res), None);
    }

    #[test]
    fn whatever_is_not_lowered_can_still_be_granted(
        catalogue in any_catalogue(), before in any_rights(), after in any_rights(), other in any_rights()
    ) {
        let (was, is) = (before.intersect(&other, &catalogue), after.intersect(&other, &catalogue));
        let within = was.scope.first_beyond(&is.scope).is_none() && was.res.first_beyond(&is.res).is_none();
        prop_assert!(before.is_lowered_to(&after, &catalogue) || within);
        prop_assert!(!before.is_lowered_to(&before, &catalogue));
        let wider = Rights { scope: before.scope.union(&after.scope), res: ResSet::all() };
        prop_assert!(!before.is_lowered_to(&wider, &catalogue));
    }

    #[test]
    fn who_holds_no_lowered_scope_keeps_what_they_had(
        before in any_catalogue(), after in any_catalogue(), held in any_scopes()
    ) {
        let lowered = before.lowered_in(&after);
        let (was, is) = (before.expand(&held), after.expand(&held));
        prop_assert!(!lowered.intersect(&held).is_empty() || was.first_beyond(&is).is_none());
        prop_assert!(before.lowered_in(&before).is_empty());
    }

    #[test]
    fn sets_survive_the_round_trip(scope in any_scopes(), paths in any_res()) {
        prop_assert_eq!(&scope.to_string().parse::<ScopeSet>().unwrap(), &scope);
        prop_assert_eq!(&paths.to_text().parse::<ResSet>().unwrap(), &paths);
        let json = serde_json::to_string(&paths).unwrap();
        prop_assert_eq!(serde_json::from_str::<ResSet>(&json).unwrap(), paths);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,200}") {
        let _ = text.parse::<ScopeSet>();
        let _ = text.parse::<ResSet>();
    }
}
