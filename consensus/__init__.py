"""The council: from opinions to one decision. Pure."""
