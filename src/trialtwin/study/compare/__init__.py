"""Which kind of twin deserves trust on a study's untreated patients: compared, told, and the winner kept."""
